"""Attention over whole sequences, without a cache: for the quantizer and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.ops.reference.attention import moved


class FullAttention:
    """Implements `Attention` for tokens that are whole sequences, from position 0, one after the other.

    Args:
        lengths: tokens of each sequence; their sum is the T of every call.
    """

    def __init__(self, lengths: Sequence[int]) -> None:
        self._lengths = list(lengths)

    def attend(
        self,
        layer: int,  # noqa: ARG002  (part of the protocol; nothing is kept per layer here)
        spec: AttentionSpec,
        rotation: Rotation,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        out: torch.Tensor,
        places: torch.Tensor | None = None,
    ) -> None:
        """Causal attention of q [T, Hq, D] over k and v [T, Hkv, D], computed in float32; out [T, Hq, D].

        With places ([Hq * D] int32, a permutation) feature f of a row of out is at places[f] of it.
        """
        rotation.apply(q, k)
        start = 0
        for length in self._lengths:
            rows = slice(start, start + length)
            attended = self._attend_one(spec, q[rows], k[rows], v[rows])
            out[rows].copy_(attended if places is None else moved(attended, places))
            start += length

    def _attend_one(
        self, spec: AttentionSpec, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        length, query_heads, _ = queries.shape
        repeats = query_heads // keys.shape[1]
        mask = None
        if spec.window is not None and spec.window < length:
            mask = _window_mask(length, spec.window, queries.device)
        attended = torch.nn.functional.scaled_dot_product_attention(
            queries.float().transpose(0, 1).unsqueeze(0),
            keys.float().repeat_interleave(repeats, dim=1).transpose(0, 1).unsqueeze(0),
            values.float().repeat_interleave(repeats, dim=1).transpose(0, 1).unsqueeze(0),
            attn_mask=mask,
            is_causal=mask is None,
            scale=spec.scale,
        )
        return attended.squeeze(0).transpose(0, 1)


def _window_mask(length: int, window: int, device: torch.device) -> torch.Tensor:
    """Which keys each query sees; bool [length, length]."""
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    return causal.triu(1 - window)
