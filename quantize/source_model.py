"""The model to be quantized: running, and with its weights at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.base import LinearShape
from engine.model.loader import LoadedModel, load_model
from engine.model.tensor_layout import TensorLayout, tensor_layout
from engine.model.transformer import Transformer
from engine.ops.backend import Backend


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A dense model.

    Attributes:
        loaded: the model on a backend.
        checkpoint: its tensors, memory-mapped.
        layout: their names and shapes.
        shapes: shape of every matrix by the name it is quantized under; a tied head has a name of its own here.
    """

    loaded: LoadedModel
    checkpoint: Checkpoint
    layout: TensorLayout
    shapes: dict[str, LinearShape]

    @property
    def model(self) -> Transformer:
        """The decoder."""
        return self.loaded.model

    def weight(self, name: str) -> torch.Tensor:
        """The matrix `name` as float32 [K, N], feature order, on the backend's device."""
        stored = self.checkpoint.tensor(f"{self.shapes[name].prefix}.weight")
        return stored.to(self.model.backend.device, torch.float32).T.contiguous()

    def bias(self, name: str) -> torch.Tensor | None:
        """Its bias [N] as it will be stored, in half precision."""
        key = f"{self.shapes[name].prefix}.bias"
        return self.checkpoint.tensor(key).half() if key in self.checkpoint else None

    def vectors(self, names: Iterator[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Tensors that stay unquantized, in half precision."""
        for name in names:
            yield name, self.checkpoint.tensor(name).half()


def open_source(directory: Path, config: ModelConfig, backend: Backend, length: int) -> SourceModel:
    """Load a model for quantization.

    Args:
        directory: of the model.
        config: its config.json, read.
        backend: will compute it.
        length: tokens of the longest row it will be run on.

    Raises:
        CheckpointError: it is missing or malformed.
        UnsupportedModelError: it asks for something Quire does not implement.
    """
    loaded = load_model(directory, backend, config=config, max_positions=length, max_tokens=length)
    checkpoint = Checkpoint.open(directory)
    layout = tensor_layout(loaded.config, checkpoint)
    shapes = {shape.prefix: shape for layer in layout.layers for shape in layer.linears.values()}
    shapes[loaded.model.head.prefix] = layout.head
    return SourceModel(loaded, checkpoint, layout, shapes)
