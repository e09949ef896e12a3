"""Rotary position embedding (Su et al., "RoFormer", 2021), halves convention: feature i pairs with i + D/2."""

from __future__ import annotations

import torch


def rotate(q: torch.Tensor, k: torch.Tensor, positions: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Rotate q [T, Hq, D] and k [T, Hkv, D] in place; positions [T] int32, cos and sin [max_positions, D / 2] float32.

    Raises:
        IndexError: a position lies beyond the tables.
    """
    cosine = cos.index_select(0, positions).unsqueeze(1)
    sine = sin.index_select(0, positions).unsqueeze(1)
    for heads in (q, k):
        first, second = heads.float().chunk(2, dim=-1)
        heads.copy_(torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1))
