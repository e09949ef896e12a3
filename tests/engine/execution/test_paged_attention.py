"""Attention over the cache, step by step, equals attention over whole sequences."""

from __future__ import annotations

import pytest
import torch

from engine.cache.kv_format import KVFormat
from engine.cache.paged_kv_cache import PagedKVCache
from engine.execution.batch_builder import BatchBuilder
from engine.execution.paged_attention import PagedAttention
from engine.model.attention_protocol import AttentionSpec, Rotation
from engine.model.full_attention import FullAttention
from engine.ops.torch_backend import TorchBackend
from engine.scheduling.batch import ScheduledBatch
from tests.engine.execution.steps import share

CPU = torch.device("cpu")
LENGTHS = (11, 7)
TABLES = ([5, 1, 3], [2, 4])
STEPS = (((0, 6), (0, 2)), ((6, 10), (2, 7)), ((10, 11),))  # per step and sequence: from, to


@pytest.mark.parametrize("leftover", [0.0, torch.nan])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("layer", [0, 1])
def test_chunks_and_decodes_equal_whole_sequences(window: int | None, layer: int, leftover: float) -> None:
    """Whatever earlier owners left in slots that are not written yet."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(sum(LENGTHS), heads, 8, generator=generator) for heads in (4, 2, 2))
    spec = AttentionSpec(scale=8**-0.5, window=window)
    expected, out = torch.empty_like(q), torch.empty_like(q)
    angles = torch.randn(max(LENGTHS), 4, generator=generator)

    def rotation(positions: torch.Tensor) -> Rotation:
        return Rotation(TorchBackend(), positions.to(torch.int32), angles.cos(), angles.sin())

    places = torch.cat([torch.arange(length) for length in LENGTHS])
    FullAttention(LENGTHS).attend(layer, spec, rotation(places), q.clone(), k.clone(), v, expected)

    cache = PagedKVCache(KVFormat(2, 2, 8, torch.float32), num_blocks=6, block_size=4, device=CPU)
    cache.keys(layer).fill_(leftover)
    cache.values(layer).fill_(leftover)
    builder = BatchBuilder(max_tokens=16, max_seqs=2, max_blocks=3, block_size=4, device=CPU)
    for step in STEPS:
        items = [
            share([0] * length, start, end - start, table)
            for length, table, (start, end) in zip(LENGTHS, TABLES, step, strict=False)
        ]
        rows = torch.tensor([LENGTHS[0] * s + p for s, bounds in enumerate(step) for p in range(*bounds)])
        attention = PagedAttention(cache, TorchBackend(), builder.build(ScheduledBatch(tuple(items)), {}).attention)
        part = torch.empty(len(rows), 4, 8)
        attention.attend(layer, spec, rotation(places[rows]), q[rows], k[rows], v[rows], part)
        out[rows] = part

    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert not cache.keys(1 - layer).any()
