"""The attention half of a decoder layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.model.attention_protocol import Attention, AttentionSpec, Rotation
from engine.model.linear import Linear, LinearGroup
from engine.model.norm import RMSNorm
from engine.model.workspace import Workspace
from engine.ops.backend import Backend


@dataclass(frozen=True, slots=True)
class RotaryTables:
    """Cosines and sines of every position, each float32 [max_positions, D / 2], on the backend's device."""

    cos: torch.Tensor
    sin: torch.Tensor


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """Where and how wide: the layer's index, its heads, and what the caller must know to attend."""

    layer: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    spec: AttentionSpec


class SelfAttention:
    """Projections, optional norm of queries and keys, rotary embedding; attending itself is the caller's."""

    def __init__(
        self,
        backend: Backend,
        workspace: Workspace,
        shape: AttentionShape,
        rotary: RotaryTables,
        q_proj: Linear,
        k_proj: Linear,
        v_proj: Linear,
        o_proj: Linear,
        q_norm: RMSNorm | None,
        k_norm: RMSNorm | None,
    ) -> None:
        self._backend = backend
        self._workspace = workspace
        self.shape = shape
        self._rotary = rotary
        self.q_proj = q_proj
        self.k_proj = k_proj
        self.v_proj = v_proj
        self.o_proj = o_proj
        self.q_norm = q_norm
        self.k_norm = k_norm
        self._inputs = LinearGroup(backend, (q_proj, k_proj, v_proj))
        self._output = LinearGroup(backend, (o_proj,))

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Its matrices, in the order of computation."""
        return (self.q_proj, self.k_proj, self.v_proj, self.o_proj)

    @property
    def groups(self) -> tuple[LinearGroup, ...]:
        """Its matrices by their inputs, those that are computed together."""
        return (self._inputs, self._output)

    @property
    def input_order(self) -> torch.Tensor | None:
        """The order in which `forward` takes the features of x; None for their own."""
        return self._inputs.input_order

    def forward(self, x: torch.Tensor, positions: torch.Tensor, attention: Attention, out: torch.Tensor) -> None:
        """x and out [T, H], features of x in `input_order`; positions [T] int32."""
        shape = self.shape
        tokens = x.shape[0]
        projected = [
            self._workspace.get(name, tokens, linear.out_features)
            for name, linear in (("q", self.q_proj), ("k", self.k_proj), ("v", self.v_proj))
        ]
        self._inputs.forward(x, projected)
        q = self._normed(projected[0], "q_normed", self.q_norm).view(tokens, shape.num_heads, shape.head_dim)
        k = self._normed(projected[1], "k_normed", self.k_norm).view(tokens, shape.num_kv_heads, shape.head_dim)
        v = projected[2].view(tokens, shape.num_kv_heads, shape.head_dim)
        rotation = Rotation(self._backend, positions, self._rotary.cos, self._rotary.sin)
        attended = self._workspace.get("attended", tokens, shape.num_heads * shape.head_dim)
        places = self._output.input_places
        attention.attend(shape.layer, shape.spec, rotation, q, k, v, attended.view_as(q), places)
        self._output.forward(attended, (out,))

    def _normed(self, projected: torch.Tensor, name: str, norm: RMSNorm | None) -> torch.Tensor:
        """A projection [T, out_features], normalised per head where there is a norm."""
        if norm is None:
            return projected
        normed = self._workspace.get(name, *projected.shape)
        norm.forward(projected.view(-1, self.shape.head_dim), normed.view(-1, self.shape.head_dim))
        return normed
