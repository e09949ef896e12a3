"""A decoder layer as the quantizer sees it: two halves of the same shape.

Each half reads the residual stream, and adds to it: `x += exit(core(entry(norm(x))))`. Attention has q, k, v as entry
and o as exit; the MLP has gate, up and down. Matrices of an entry share their input, and so one Hessian.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from engine.model.full_attention import FullAttention
from engine.model.linear import Linear
from engine.model.norm import RMSNorm
from engine.model.transformer import DecoderLayer
from quantize.capture import catching


class HalfLayer(ABC):
    """One half of a decoder layer, run on whole rows.

    Attributes:
        entry: matrices that read the normed residual stream.
        exit: the matrix that writes to the residual stream.
    """

    def __init__(self, norm: RMSNorm, entry: tuple[Linear, ...], exit_linear: Linear) -> None:
        self._norm = norm
        self.entry = entry
        self.exit = exit_linear

    def entry_inputs(self, stream: torch.Tensor) -> torch.Tensor:
        """What the entry matrices read, [T, H] from the residual stream [T, H] of one row."""
        normed = torch.empty_like(stream)
        self._norm.forward(stream, normed)
        return normed

    def exit_inputs(self, stream: torch.Tensor) -> torch.Tensor:
        """What the exit matrix reads, [T, K] from the residual stream [T, H] of one row."""
        with catching(self.exit) as catcher:
            self._forward(self.entry_inputs(stream))
        return catcher.inputs

    def output(self, stream: torch.Tensor) -> torch.Tensor:
        """The residual stream [T, H] behind the half, from the one before it; autograd can follow."""
        return stream + self._forward(self.entry_inputs(stream))

    def advance(self, stream: torch.Tensor, exit_inputs: torch.Tensor) -> None:
        """Add what the exit matrix makes of its inputs to the residual stream, in place."""
        branch = torch.empty_like(stream)
        self.exit.forward(exit_inputs, branch)
        stream += branch

    @abstractmethod
    def _forward(self, normed: torch.Tensor) -> torch.Tensor:
        """What the half makes of normed inputs [T, H], for the residual stream to be added to."""


class AttentionHalf(HalfLayer):
    """The attention of a layer."""

    def __init__(self, layer: DecoderLayer) -> None:
        attention = layer.attention
        super().__init__(layer.input_norm, (attention.q_proj, attention.k_proj, attention.v_proj), attention.o_proj)
        self._attention = attention

    def _forward(self, normed: torch.Tensor) -> torch.Tensor:
        branch = torch.empty_like(normed)
        self._attention.forward(normed, *whole_row(normed), branch)
        return branch


class MLPHalf(HalfLayer):
    """The MLP of a layer."""

    def __init__(self, layer: DecoderLayer) -> None:
        mlp = layer.mlp
        super().__init__(layer.post_attention_norm, (mlp.gate_proj, mlp.up_proj), mlp.down_proj)
        self._mlp = mlp

    def _forward(self, normed: torch.Tensor) -> torch.Tensor:
        branch = torch.empty_like(normed)
        self._mlp.forward(normed, branch)
        return branch


def halves(layer: DecoderLayer) -> tuple[HalfLayer, HalfLayer]:
    """The halves of a layer in the order of computation."""
    return AttentionHalf(layer), MLPHalf(layer)


def whole_row(stream: torch.Tensor) -> tuple[torch.Tensor, FullAttention]:
    """Positions and attention for a row [T, H] that is one sequence from its beginning."""
    tokens = stream.shape[0]
    return torch.arange(tokens, dtype=torch.int32, device=stream.device), FullAttention([tokens])
