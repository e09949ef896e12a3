"""How the decoder asks for attention without knowing where keys and values are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from engine.ops.backend import AttentionBatch, Backend


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """What of a layer's attention is fixed by the model.

    Attributes:
        scale: factor on q·k, usually head_dim ** -0.5.
        window: number of latest positions a token sees, itself included; None for all.
    """

    scale: float
    window: int | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """The rotary embedding that a step's queries and keys still have to get.

    Attributes:
        backend: computes it.
        positions: [T] int32 position of each token.
        cos: float32 [max_positions, D / 2].
        sin: the same.
    """

    backend: Backend
    positions: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor

    def apply(self, q: torch.Tensor, k: torch.Tensor) -> None:
        """Rotate q [T, Hq, D] and k [T, Hkv, D] in place."""
        self.backend.rotate(q, k, self.positions, self.cos, self.sin)

    def apply_and_store(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        batch: AttentionBatch,
    ) -> None:
        """Rotate q in place, and k on its way to the cache with v; what k holds afterwards is undefined."""
        self.backend.rotate_and_store(q, k, v, self.positions, self.cos, self.sin, k_cache, v_cache, batch)


class Attention(Protocol):
    """Attention over whatever the caller keeps: a paged cache when serving, whole sequences when quantizing."""

    def attend(
        self,
        layer: int,
        spec: AttentionSpec,
        rotation: Rotation,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        """Rotate q and k, remember k and v [T, Hkv, D] for `layer`, and write causal attention of q to out [T, Hq, D].

        With places ([Hq * D] int32, a permutation) feature f of a row of out is at places[f] of it. What q and k hold
        afterwards is undefined.
        """
        ...
