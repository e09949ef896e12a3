"""Ops that pick rows: the token embedding, and the rows whose logits are wanted."""

from __future__ import annotations

import torch


def embed(token_ids: torch.Tensor, table: torch.Tensor, out: torch.Tensor) -> None:
    """`out[t] = table[token_ids[t]]`; ids [T] int32, table [V, H] of any float type, out [T, H].

    Raises:
        IndexError: an id lies beyond the table.
    """
    out.copy_(table.index_select(0, token_ids))


def take_rows(x: torch.Tensor, rows: torch.Tensor, out: torch.Tensor) -> None:
    """`out[i] = x[rows[i]]`; x [T, H], rows [L] int32, out [L, H]."""
    out.copy_(x.index_select(0, rows))
