"""Fingerprints of weights and models."""

from __future__ import annotations

import hashlib

import torch

from engine.model.checkpoint import Checkpoint

PIECES = 8
PIECE = 512
"""Pieces that are looked at of each tensor, and values in each: a few megabytes of the largest models."""


def weight_digest(weight: torch.Tensor) -> str:
    """SHA-256 of the bytes of a float16 matrix."""
    return hashlib.sha256(weight.cpu().contiguous().numpy().tobytes()).hexdigest()


def model_identity(checkpoint: Checkpoint) -> str:
    """SHA-256 of names, types and shapes of all tensors, and of pieces of their content spread evenly over each.

    It tells a model from its fine-tunes and costs next to nothing; how the tensors are shared out among files does not
    matter. Somebody who changes single values on purpose will go unnoticed.

    Args:
        checkpoint: as it is stored, without padding.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    digest = hashlib.sha256()
    for name in sorted(checkpoint.names):
        tensor = checkpoint.tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.reshape(-1)
        stride = max(PIECE, len(values) // PIECES)
        for start in range(0, len(values), stride):
            digest.update(values[start : start + PIECE].view(torch.uint8).numpy().data)
    return digest.hexdigest()
