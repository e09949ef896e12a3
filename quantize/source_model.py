"""The model to be quantized: running layer by layer, and with its weights at hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import ModelConfig
from engine.model.formats.base import LinearShape
from engine.model.loader import ModelParts
from engine.model.tensor_layout import TensorLayout
from engine.ops.backend import Backend
from quantize.streamed_model import StreamedModel


@dataclass(frozen=True, slots=True)
class SourceModel:
    """A dense model.

    Attributes:
        model: runs it.
        scratch: folder for files that are of no use afterwards.
        shapes: shape of every matrix by the name it is quantized under, in model order, the head last; a tied head has
            a name of its own here.
    """

    model: StreamedModel
    scratch: Path
    shapes: dict[str, LinearShape]

    @property
    def checkpoint(self) -> Checkpoint:
        """Its tensors, memory-mapped."""
        return self.model.parts.checkpoint

    @property
    def layout(self) -> TensorLayout:
        """Their names and shapes."""
        return self.model.parts.layout

    @property
    def head_name(self) -> str:
        """The name the output head is quantized under."""
        return self.model.config.spec.names.head

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


def open_source(
    checkpoint: Checkpoint, config: ModelConfig, backend: Backend, length: int, scratch: Path
) -> SourceModel:
    """Make a model ready for quantization.

    Args:
        checkpoint: its tensors.
        config: its config.json, read.
        backend: will compute it.
        length: tokens of the longest row it will be run on.
        scratch: folder for temporary files.

    Raises:
        CheckpointError: it is missing or malformed.
        UnsupportedModelError: it asks for something Quire does not implement.
    """
    parts = ModelParts.open(checkpoint, config, backend, max_positions=length, max_tokens=length)
    return SourceModel(StreamedModel(parts), scratch, matrix_shapes(parts.layout, config.spec.names.head))


def matrix_shapes(layout: TensorLayout, head: str) -> dict[str, LinearShape]:
    """See `SourceModel.shapes`; `head` is what the output head is quantized under."""
    shapes = {shape.prefix: shape for layer in layout.layers for shape in layer.linears.values()}
    return {**shapes, head: layout.head}
