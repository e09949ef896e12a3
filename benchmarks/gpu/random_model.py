"""Models of any shape with random EXL2 weights, made on the card and loaded from there: no checkpoint is needed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import cast

import torch

from benchmarks.random_exl2_model import RandomModel, random_dense_tensors, random_tensors, write_config
from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.loader import LoadedModel, ModelParts
from engine.model.tensor_layout import tensor_layout
from engine.model.transformer import Transformer
from engine.ops.backend import Backend

FOUR_BITS = (5, *[4] * 9)
"""Widths of equal shares of every matrix's rows, as at 4 bits for each weight."""

VOCABULARY = 128256

ONE_BILLION = RandomModel(2048, 16, 8192, 32, 8, VOCABULARY, widths=FOUR_BITS)
EIGHT_BILLION = RandomModel(4096, 32, 14336, 32, 8, VOCABULARY, widths=FOUR_BITS)
TENTH_OF_SEVENTY_BILLION = RandomModel(8192, 8, 28672, 64, 8, VOCABULARY, widths=FOUR_BITS)


class HeldCheckpoint:
    """Tensors in memory, in place of a `Checkpoint`."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors
        self.directory = Path("random")
        self.names = tuple(tensors)
        self.num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        self.bytes_read = 0

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor."""
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor."""
        return self._tensors[name].dtype

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor itself."""
        return self._tensors[name]

    def error(self, name: str, fact: str) -> CheckpointError:
        """What is wrong with a tensor."""
        return CheckpointError(f"{name}: {fact}")


def load_random_model(model: RandomModel, backend: Backend, max_tokens: int, *, dense: bool = False) -> LoadedModel:
    """Make the weights on the backend's device, and a model of them, as `load_model` does from files.

    Args:
        model: its shape; `positions` is the longest sequence.
        backend: computes it.
        max_tokens: tokens of the largest step.
        dense: float16 matrices in place of EXL2's.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder), model)
        config = load_config(Path(folder))
    generator = torch.Generator(backend.device).manual_seed(model.seed)
    tensors: dict[str, torch.Tensor] = {}
    for some in random_dense_tensors(model, generator) if dense else random_tensors(model, generator):
        tensors.update(some)
    checkpoint = cast("Checkpoint", HeldCheckpoint(tensors))
    layout = tensor_layout(config, checkpoint)
    parts = ModelParts(checkpoint, layout, config, backend, model.positions, max_tokens)
    transformer = Transformer(
        config,
        backend,
        parts.workspace,
        parts.embedding(),
        tuple(parts.layer(index) for index in range(config.num_layers)),
        parts.final_norm(),
        parts.head(),
        max_positions=parts.max_positions,
    )
    return LoadedModel(transformer, config, parts.summary())
