"""Causal attention over a paged KV cache (Kwon et al., "PagedAttention", 2023), one sequence at a time."""

from __future__ import annotations

import torch

from engine.ops.backend import AttentionBatch


def paged_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    batch: AttentionBatch,
    scale: float,
    window: int | None,
    out: torch.Tensor,
    places: torch.Tensor | None = None,
) -> None:
    """Attention of q [T, Hq, D] over the caches [blocks, Hkv, block_size, D]; out [T, Hq, D] as q.

    A token at position p attends to positions max(0, p - window + 1) … p, all of 0 … p without a window. Query head
    h reads key head `h // (Hq / Hkv)` (Ainslie et al., "GQA", 2023). Everything is computed in float32. With places
    [Hq * D] feature f of a row is at places[f] of it.
    """
    bounds = batch.query_start.tolist()
    for sequence, context in enumerate(batch.context_lens.tolist()):
        start, end = bounds[sequence], bounds[sequence + 1]
        if start == end:
            continue
        first_position = context - (end - start)
        oldest = 0 if window is None else max(0, first_position - window + 1)
        table = batch.block_tables[sequence]
        keys = _gather(k_cache, table, oldest, context)
        values = _gather(v_cache, table, oldest, context)
        mask = _visible(first_position, oldest, context, window, q.device)
        attended = _attend(q[start:end], keys, values, mask, scale)
        out[start:end].copy_(attended if places is None else moved(attended, places))


def moved(attended: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Results [T, Hq, D] with feature f of each row at places[f] [Hq * D]."""
    return attended.flatten(1)[:, torch.argsort(places)].view_as(attended)


def _gather(cache: torch.Tensor, table: torch.Tensor, oldest: int, context: int) -> torch.Tensor:
    """Positions oldest … context - 1 of one sequence as float32 [Hkv, positions, D]."""
    block_size = cache.shape[2]
    first_block = oldest // block_size
    last_block = (context + block_size - 1) // block_size
    blocks = cache.index_select(0, table[first_block:last_block])
    positions = blocks.transpose(0, 1).flatten(1, 2)
    return positions[:, oldest - first_block * block_size : context - first_block * block_size].float()


def _visible(first_position: int, oldest: int, context: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Whether a query at first_position … context - 1 sees a key at oldest … context - 1; bool [queries, keys]."""
    query = torch.arange(first_position, context, device=device).unsqueeze(1)
    key = torch.arange(oldest, context, device=device).unsqueeze(0)
    visible = key <= query
    return visible if window is None else visible & (key > query - window)


def _attend(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, visible: torch.Tensor, scale: float
) -> torch.Tensor:
    """q [R, Hq, D] over keys and values [Hkv, P, D], grouped; float32 [R, Hq, D]."""
    rows, query_heads, head_dim = q.shape
    kv_heads = keys.shape[0]
    grouped = q.float().view(rows, kv_heads, query_heads // kv_heads, head_dim).permute(1, 2, 0, 3)
    scores = torch.matmul(grouped, keys.unsqueeze(1).transpose(2, 3)) * scale
    weights = torch.softmax(scores.masked_fill(~visible, float("-inf")), dim=-1)
    return torch.matmul(weights, values.unsqueeze(1)).permute(2, 0, 1, 3).reshape(rows, query_heads, head_dim)
