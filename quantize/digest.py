"""Fingerprints of weights."""

from __future__ import annotations

import hashlib

import torch


def weight_digest(weight: torch.Tensor) -> str:
    """SHA-256 of the bytes of a float16 matrix."""
    return hashlib.sha256(weight.cpu().contiguous().numpy().tobytes()).hexdigest()
