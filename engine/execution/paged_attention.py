"""Attention over the paged cache: what the decoder gets as its `Attention` when serving."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.cache.paged_kv_cache import PagedKVCache
from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.ops.backend import AttentionBatch, Backend


@dataclass(frozen=True, slots=True)
class PagedAttention:
    """The attention of one step; implements `engine.model.attention_protocol.Attention`.

    Attributes:
        cache: keys and values.
        backend: computes.
        batch: where this step's tokens stand in the cache.
    """

    cache: PagedKVCache
    backend: Backend
    batch: AttentionBatch

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
        """Rotate q and k, store k and v [T, Hkv, D] in the layer's cache, then attend with q to all that is there.

        Features of out go to their places, if some are named.
        """
        keys, values = self.cache.keys(layer), self.cache.values(layer)
        rotation.apply_and_store(q, k, v, keys, values, self.batch)
        self.backend.paged_attention(q, keys, values, self.batch, spec.scale, spec.window, out, places)
