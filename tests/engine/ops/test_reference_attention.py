"""Paged attention and the cache writes before it, against attention written out token by token."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.model.full_attention import FullAttention
from engine.ops.backend import AttentionBatch
from engine.ops.torch_backend import TorchBackend


def int32(values: list[int]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def naive_attention(
    q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, first: int, scale: float, window: int | None
) -> torch.Tensor:
    """q [R, Hq, D] at positions first …; keys and values [P, Hkv, D] from position 0; one dot product at a time."""
    rows, heads, _ = q.shape
    out = torch.zeros_like(q)
    for row in range(rows):
        position = first + row
        oldest = 0 if window is None else max(0, position - window + 1)
        for head in range(heads):
            kv_head = head * keys.shape[1] // heads
            scores = [float(q[row, head] @ keys[p, kv_head]) * scale for p in range(oldest, position + 1)]
            weights = [math.exp(score - max(scores)) for score in scores]
            for weight, p in zip(weights, range(oldest, position + 1), strict=True):
                out[row, head] += weight / sum(weights) * values[p, kv_head]
    return out


@settings(max_examples=30)
@given(
    sequences=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=3),
    block_size=st.sampled_from([1, 3, 4]),
    kv_heads=st.integers(1, 2),
    group=st.integers(1, 3),
    window=st.none() | st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_paged_attention_equals_attention_written_out(
    sequences: list[tuple[int, int]], block_size: int, kv_heads: int, group: int, window: int | None, seed: int
) -> None:
    """Each sequence has some tokens in the cache already and gets some new ones, perhaps none."""
    backend, generator = TorchBackend(), torch.Generator().manual_seed(seed)
    head_dim, scale = 4, 0.7
    width = max(1, *(-(-(old + new) // block_size) for old, new in sequences))
    tables = torch.randperm(len(sequences) * width, generator=generator).to(torch.int32).view(-1, width)
    shape = (len(tables) * width, kv_heads, block_size, head_dim)
    caches = torch.full(shape, float("nan")), torch.full(shape, float("nan"))

    def random(tokens: int, heads: int) -> torch.Tensor:
        return torch.randn(tokens, heads, head_dim, generator=generator)

    def step(spans: list[tuple[int, int]]) -> AttentionBatch:
        slots = [
            int(tables[index, p // block_size]) * block_size + p % block_size
            for index, (start, end) in enumerate(spans)
            for p in range(start, end)
        ]
        starts = [sum(end - start for start, end in spans[:count]) for count in range(len(spans) + 1)]
        return AttentionBatch(int32(starts), int32([end for _, end in spans]), tables, int32(slots))

    keys = [random(old + new, kv_heads) for old, new in sequences]
    values = [random(old + new, kv_heads) for old, new in sequences]
    old_parts, new_parts = [(0, old) for old, _ in sequences], [(old, old + new) for old, new in sequences]
    for spans in (old_parts, new_parts):
        k, v = (torch.cat([t[a:b] for t, (a, b) in zip(each, spans, strict=True)]) for each in (keys, values))
        backend.store_kv(k, v, *caches, step(spans))
    q = random(sum(new for _, new in sequences), kv_heads * group)
    out = torch.empty_like(q)
    backend.paged_attention(q, *caches, step(new_parts), scale, window, out)

    parts = q.split([new for _, new in sequences])
    expected = [
        naive_attention(part, keys[i], values[i], sequences[i][0], scale, window) for i, part in enumerate(parts)
    ]
    torch.testing.assert_close(out, torch.cat(expected))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_caches_round_keys_and_values_only(dtype: torch.dtype) -> None:
    backend, generator = TorchBackend(), torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(6, 2, 4, generator=generator) for _ in range(3))
    k_cache, v_cache = (torch.zeros(2, 2, 4, 4, dtype=dtype) for _ in range(2))
    batch = AttentionBatch(
        int32([0, 6]), int32([6]), torch.tensor([[1, 0]], dtype=torch.int32), int32([4, 5, 6, 7, 0, 1])
    )
    backend.store_kv(k, v, k_cache, v_cache, batch)
    out = torch.empty_like(q)
    backend.paged_attention(q, k_cache, v_cache, batch, 0.5, None, out)
    expected = naive_attention(q, k.to(dtype).float(), v.to(dtype).float(), 0, 0.5, None)
    torch.testing.assert_close(out, expected)
    moved, places = torch.empty_like(q), torch.randperm(8, generator=generator).to(torch.int32)
    backend.paged_attention(q, k_cache, v_cache, batch, 0.5, None, moved, places)
    torch.testing.assert_close(moved.flatten(1)[:, places.long()], expected.flatten(1))


@pytest.mark.parametrize("window", [None, 1, 3, 5, 100])
def test_full_attention_equals_attention_written_out(window: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(9, heads, 4, generator=generator) for heads in (4, 2, 2))
    out = torch.empty_like(q)
    unturned = Rotation(TorchBackend(), torch.zeros(9, dtype=torch.int32), torch.ones(1, 2), torch.zeros(1, 2))
    FullAttention([5, 4]).attend(0, AttentionSpec(0.6, window), unturned, q, k, v, out)
    for rows in (slice(0, 5), slice(5, 9)):
        torch.testing.assert_close(out[rows], naive_attention(q[rows], k[rows], v[rows], 0, 0.6, window))
    moved, places = torch.empty_like(q), torch.randperm(16, generator=generator).to(torch.int32)
    FullAttention([5, 4]).attend(0, AttentionSpec(0.6, window), unturned, q, k, v, moved, places)
    assert torch.equal(moved.flatten(1)[:, places.long()], out.flatten(1))
