"""Feed-forward widths that EXL2 cannot store, made wider with weights that are zero.

A row of gate and up that is zero gives silu(0) · 0 = 0, and a column of down that is zero passes it on as nothing: the
padded model computes exactly what the original does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.tensor_layout import tensor_layout
from engine.ops.exl2 import ROW_MULTIPLE


def padded_config(config: ModelConfig) -> ModelConfig:
    """The configuration with a feed-forward width that can be stored."""
    width = config.intermediate_size
    return replace(config, intermediate_size=width + -width % ROW_MULTIPLE)


def open_padded(directory: Path, config: ModelConfig) -> Checkpoint:
    """The checkpoint in `directory` as `padded_config` wants it.

    A tensor that has not the shape which `config` asks for is left as it is, for others to refuse.
    """
    stored, padded = Checkpoint.open(directory), padded_config(config)
    if padded == config:
        return stored
    shapes = {
        name: wanted
        for (name, found), wanted in zip(_shapes(config, stored).items(), _shapes(padded, stored).values(), strict=True)
        if name in stored and stored.shape(name) == found
    }
    return PaddedCheckpoint(stored, shapes)


def _shapes(config: ModelConfig, checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    """Shapes of the feed-forward matrices and biases as stored, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in tensor_layout(config, checkpoint).layers:
        for module in ("gate_proj", "up_proj", "down_proj"):
            shape = layer.linears[module]
            shapes[f"{shape.prefix}.weight"] = (shape.out_features, shape.in_features)
            if shape.bias:
                shapes[f"{shape.prefix}.bias"] = (shape.out_features,)
    return shapes


class PaddedCheckpoint(Checkpoint):
    """A checkpoint some of whose tensors appear larger than they are stored, filled up with zeros.

    Args:
        stored: the checkpoint.
        shapes: of those tensors, by name.
    """

    def __init__(self, stored: Checkpoint, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(stored.directory, stored._entries, stored._readers)
        self._shapes = shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """With the padding."""
        return self._shapes.get(name) or super().shape(name)

    def tensor(self, name: str) -> torch.Tensor:
        """With the padding; a padded tensor is a copy."""
        tensor = super().tensor(name)
        wanted = self._shapes.get(name, tuple(tensor.shape))
        for dimension, size in enumerate(wanted):
            missing = size - tensor.shape[dimension]
            if missing:
                shape = list(tensor.shape)
                shape[dimension] = missing
                tensor = torch.cat([tensor, tensor.new_zeros(shape)], dimension)
        return tensor
