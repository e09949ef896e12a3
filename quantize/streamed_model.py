"""A model of which one layer at a time is in memory, read from its files when it is wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from engine.model.config import ModelConfig
from engine.model.linear import Linear
from engine.model.loader import ModelParts
from engine.model.norm import RMSNorm
from engine.model.transformer import DecoderLayer
from engine.ops.backend import Backend
from quantize.half_layer import whole_row
from quantize.streams import StreamFile


class StreamedModel:
    """Runs rows through a model, all of them through one layer before the next is read.

    Args:
        parts: of the model.
    """

    def __init__(self, parts: ModelParts) -> None:
        self.parts = parts

    @property
    def config(self) -> ModelConfig:
        """What the model computes."""
        return self.parts.config

    @property
    def backend(self) -> Backend:
        """What computes it."""
        return self.parts.backend

    @property
    def layers(self) -> Iterator[DecoderLayer]:
        """The decoder layers in order, each read when it is drawn, and dropped by whoever draws the next."""
        return (self.parts.layer(index) for index in range(self.config.num_layers))

    def embed(self, row: torch.Tensor) -> torch.Tensor:
        """The residual stream [T, H] of the tokens `row` [T] before the first layer.

        Only those rows of the table are read that are needed.
        """
        table = self.parts.checkpoint.tensor(self.parts.layout.embedding)
        return table[row.long().cpu()].to(self.backend.device, self.backend.activation_dtype)

    def open_streams(self, path: Path, rows: torch.Tensor) -> StreamFile:
        """A new file with the residual streams of `rows` [rows, T] before the first layer."""
        streams = StreamFile(path, rows.shape[0], rows.shape[1], self.config.hidden_size, self.backend)
        for index, row in enumerate(rows):
            streams.write(index, self.embed(row))
        return streams

    def run(self, path: Path, rows: torch.Tensor, advanced: Callable[[], None]) -> StreamFile:
        """A new file with the residual streams of `rows` behind the last layer; tells `advanced` of every layer."""
        streams = self.open_streams(path, rows)
        for layer in self.layers:
            pass_layer(layer, streams)
            advanced()
        return streams

    def output(self) -> OutputLayer:
        """What stands behind the last layer."""
        return OutputLayer(self.parts.final_norm(), self.parts.head(), self.config.vocab_size)


class OutputLayer:
    """Final norm and head.

    Args:
        norm: before the head.
        head: the matrix.
        vocab_size: true number of its outputs.
    """

    def __init__(self, norm: RMSNorm, head: Linear, vocab_size: int) -> None:
        self.norm = norm
        self.head = head
        self._vocab_size = vocab_size

    def inputs(self, stream: torch.Tensor) -> torch.Tensor:
        """What the head reads, [T, H] from a residual stream [T, H] behind the last layer."""
        normed = torch.empty_like(stream)
        self.norm.forward(stream, normed)
        return normed

    def log_probabilities(self, stream: torch.Tensor) -> torch.Tensor:
        """float32 [P, V] from P positions [P, H] of a residual stream behind the last layer."""
        logits = torch.empty(stream.shape[0], self._vocab_size, dtype=stream.dtype, device=stream.device)
        self.head.forward(self.inputs(stream), logits)
        return logits.float().log_softmax(-1)


def pass_layer(layer: DecoderLayer, streams: StreamFile) -> None:
    """Advance every row through a layer."""
    for index in range(streams.rows):
        stream = streams.read(index)
        layer.forward(stream, *whole_row(stream))
        streams.write(index, stream)
