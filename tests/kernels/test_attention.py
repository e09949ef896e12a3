"""Paged attention against a plain float64 computation, and its independence of batch, chunking and threads."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_ext.loader import Isa
from engine.errors import KernelArgumentError
from engine.ops.backend import AttentionBatch, Backend
from engine.ops.torch_backend import TorchBackend
from tests.kernels.cases import assert_close, every_isa, float_types, generator
from tests.kernels.conftest import Backends


@dataclass(frozen=True)
class Setting:
    """Shapes of an attention layer and its cache."""

    q_heads: int = 4
    kv_heads: int = 2
    head_dim: int = 24
    block_size: int = 16
    window: int | None = None
    dtype: torch.dtype = torch.float16

    @property
    def scale(self) -> float:
        return 1 / math.sqrt(self.head_dim)


class Story:
    """Whole sequences of queries, keys and values, stored block by scattered block in a cache."""

    def __init__(self, setting: Setting, lengths: list[int], seed: int) -> None:
        self.setting, self.lengths = setting, lengths
        random = generator(seed)
        shape = (setting.kv_heads, setting.head_dim)
        self.q = [torch.randn(n, setting.q_heads, setting.head_dim, generator=random) * 2 for n in lengths]
        self.k = [torch.randn(n, *shape, generator=random) for n in lengths]
        self.v = [torch.randn(n, *shape, generator=random) for n in lengths]
        counts = [-(-n // setting.block_size) for n in lengths]
        scattered = torch.randperm(sum(counts) + 2, generator=random).tolist()
        self.tables = [[scattered.pop() for _ in range(count)] for count in counts]
        self.blocks = sum(counts) + 2

    def empty_caches(self) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (self.blocks, self.setting.kv_heads, self.setting.block_size, self.setting.head_dim)
        return torch.full(shape, 7.0, dtype=self.setting.dtype), torch.full(shape, 7.0, dtype=self.setting.dtype)

    def batch(self, spans: list[tuple[int, int, int]]) -> AttentionBatch:
        """One step with positions begin … end - 1 of some sequences, given as (sequence, begin, end)."""
        size = self.setting.block_size
        starts, slots = [0], []
        table = torch.zeros(len(spans), max(len(each) for each in self.tables), dtype=torch.int32)
        for row, (sequence, begin, end) in enumerate(spans):
            blocks = self.tables[sequence]
            table[row, : len(blocks)] = torch.tensor(blocks, dtype=torch.int32)
            starts.append(starts[-1] + end - begin)
            slots += [blocks[position // size] * size + position % size for position in range(begin, end)]
        ends = [end for _, _, end in spans]
        start_rows, context_lens, places = (torch.tensor(each, dtype=torch.int32) for each in (starts, ends, slots))
        return AttentionBatch(start_rows, context_lens, table, places)

    def run(
        self, backend: Backend, steps: list[list[tuple[int, int, int]]]
    ) -> tuple[list[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
        """Store and attend step by step; the outputs of every sequence, and the caches."""
        setting, caches = self.setting, self.empty_caches()
        outputs = [torch.full_like(q, float("nan")) for q in self.q]
        for spans in steps:
            batch = self.batch(spans)
            q, k, v = (torch.cat([x[s][b:e] for s, b, e in spans]) for x in (self.q, self.k, self.v))
            out = torch.full_like(q, float("nan"))
            backend.store_kv(k, v, *caches, batch)
            backend.paged_attention(q, *caches, batch, setting.scale, setting.window, out)
            for row, (sequence, begin, end) in enumerate(spans):
                outputs[sequence][begin:end] = out[batch.query_start[row] : batch.query_start[row + 1]]
        return outputs, caches

    def expected(self, sequence: int) -> torch.Tensor:
        """Attention of a whole sequence in float64, over keys and values as the cache rounds them."""
        setting, length = self.setting, self.lengths[sequence]
        group = setting.q_heads // setting.kv_heads
        k, v = (
            x[sequence].to(setting.dtype).double().repeat_interleave(group, dim=1).transpose(0, 1)
            for x in (self.k, self.v)
        )
        scores = self.q[sequence].double().transpose(0, 1) @ k.transpose(1, 2) * setting.scale
        distance = torch.arange(length)[:, None] - torch.arange(length)
        hidden = (distance < 0) | (distance >= (setting.window or length))
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v).transpose(0, 1)


def whole(lengths: list[int]) -> list[list[tuple[int, int, int]]]:
    return [[(sequence, 0, length) for sequence, length in enumerate(lengths)]]


@every_isa
@float_types
@settings(max_examples=25)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    head_dim=st.sampled_from([1, 2, 8, 16, 24, 64, 80, 128]),
    block_size=st.sampled_from([1, 4, 16, 48, 64]),
    window=st.sampled_from([None, 1, 3, 63, 64, 65, 100]),
    lengths=st.lists(st.integers(1, 150), min_size=1, max_size=3),
    seed=st.integers(0, 1 << 30),
)
def test_equals_float64(
    backends: Backends,
    isa: Isa,
    dtype: torch.dtype,
    kv_heads: int,
    group: int,
    head_dim: int,
    block_size: int,
    window: int | None,
    lengths: list[int],
    seed: int,
) -> None:
    story = Story(Setting(kv_heads * group, kv_heads, head_dim, block_size, window, dtype), lengths, seed)
    outputs, _ = story.run(backends(isa, 2), whole(lengths))
    for sequence, output in enumerate(outputs):
        assert_close(output, story.expected(sequence), 5e-6)


@every_isa
@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(1, 140), min_size=1, max_size=3),
    chunk=st.integers(1, 70),
    block_size=st.sampled_from([4, 16, 64]),
    window=st.sampled_from([None, 5, 64, 90]),
    seed=st.integers(0, 1 << 30),
)
def test_chunks_neighbours_and_threads_do_not_matter(
    backends: Backends, isa: Isa, lengths: list[int], chunk: int, block_size: int, window: int | None, seed: int
) -> None:
    story = Story(Setting(block_size=block_size, window=window), lengths, seed)
    token_by_token = [[(s, p, p + 1)] for s, length in enumerate(lengths) for p in range(length)]
    expected, expected_caches = story.run(backends(isa, 1), token_by_token)
    chunked = [
        [(s, begin, min(begin + chunk, length)) for s, length in enumerate(lengths) if begin < length]
        for begin in range(0, max(lengths), chunk)
    ]
    for threads, steps in ((1, chunked), (2, whole(lengths)), (3, chunked), (4, whole(lengths))):
        outputs, caches = story.run(backends(isa, threads), steps)
        assert all(map(torch.equal, outputs, expected))
        assert all(map(torch.equal, caches, expected_caches))


@every_isa
@float_types
def test_agrees_with_the_torch_backend(backends: Backends, isa: Isa, dtype: torch.dtype) -> None:
    story = Story(Setting(dtype=dtype, window=70), [130, 1, 65], seed=2)
    steps = [[(0, 0, 100), (1, 0, 1)], [(0, 100, 130), (2, 0, 65)]]
    outputs, caches = story.run(backends(isa, 2), steps)
    expected, expected_caches = story.run(TorchBackend(), steps)
    assert all(map(torch.equal, caches, expected_caches))
    for output, reference in zip(outputs, expected, strict=True):
        assert_close(output, reference, 5e-6)


@every_isa
def test_instruction_sets_agree(backends: Backends, isa: Isa) -> None:
    story = Story(Setting(), [100], seed=1)
    expected, _ = story.run(backends(Isa.PORTABLE), whole([100]))
    outputs, _ = story.run(backends(isa), whole([100]))
    assert_close(outputs[0], expected[0], 2e-6)


@every_isa
def test_large_scores_stay_finite(backends: Backends, isa: Isa) -> None:
    story = Story(Setting(head_dim=16), [80], seed=1)
    story.q[0].mul_(1e4)
    outputs, _ = story.run(backends(isa), whole([80]))
    assert_close(outputs[0], story.expected(0), 2e-3)  # scores of 1e5 are themselves only known to 0.01 in float32


@every_isa
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_stores_round_to_nearest_even(backends: Backends, isa: Isa, dtype: torch.dtype) -> None:
    exact = torch.cat([torch.logspace(-9, 5, 500), torch.tensor([0.0, 65504.0, 65519.9, 65520.0, 3e38])])
    halves = exact.to(dtype).float()
    ties = (halves + torch.nextafter(exact.to(dtype), torch.tensor(float("inf"), dtype=dtype)).float()) / 2
    all_ones_nan = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)  # rounding up would overflow it
    special = torch.tensor([float("inf"), float("-inf"), float("nan")])
    values = torch.cat([exact, -exact, ties, special, all_ones_nan])
    values = torch.cat([values, values[-3:]])[None, None]  # also in the scalar tail
    dim = values.shape[-1]
    caches = torch.zeros(2, 1, 1, dim, dtype=dtype), torch.zeros(2, 1, 1, dim, dtype=dtype)
    slots = torch.tensor([1], dtype=torch.int32)
    backends(isa).store_kv(values, -values, *caches, AttentionBatch(slots, slots, slots[:, None], slots))
    for cache, expected in zip(caches, (values, -values), strict=True):
        assert torch.equal(cache[1, 0, 0].nan_to_num(nan=1.0), expected[0, 0].to(dtype).nan_to_num(nan=1.0))
        assert not cache[0].any()


@every_isa
def test_tokens_that_only_fill_up_a_step_are_not_stored(backends: Backends, isa: Isa) -> None:
    for backend in (backends(isa), TorchBackend()):
        storage = torch.full((2, 4, 1, 4, 8), 7.0)
        caches = storage[0, 1:], storage[1, 1:]
        k = torch.ones(3, 1, 8)
        slots = torch.tensor([2, -1, -1], dtype=torch.int32)
        backend.store_kv(k, k * 2, *caches, AttentionBatch(slots, slots, slots[:, None], slots))
        assert caches[0][0, 0, 2].eq(1).all()
        assert caches[1][0, 0, 2].eq(2).all()
        assert int(storage.eq(7).sum()) == storage.numel() - 16


def test_features_go_to_their_places(backends: Backends) -> None:
    backend, story = backends(Isa.PORTABLE), Story(Setting(), [3], seed=1)
    batch, caches = story.batch([(0, 0, 3)]), story.empty_caches()
    backend.store_kv(story.k[0], story.v[0], *caches, batch)
    plain, moved = torch.empty_like(story.q[0]), torch.empty_like(story.q[0])
    places = torch.randperm(plain[0].numel(), generator=torch.Generator().manual_seed(1)).to(torch.int32)
    backend.paged_attention(story.q[0], *caches, batch, 1.0, None, plain)
    backend.paged_attention(story.q[0], *caches, batch, 1.0, None, moved, places)
    assert torch.equal(moved.flatten(1)[:, places.long()], plain.flatten(1))
    with pytest.raises(KernelArgumentError, match="places"):
        backend.paged_attention(story.q[0], *caches, batch, 1.0, None, moved, places[1:])


def test_wrong_arguments_are_refused(backends: Backends) -> None:
    backend, story = backends(Isa.PORTABLE), Story(Setting(), [3], seed=1)
    batch, caches, out = story.batch([(0, 0, 3)]), story.empty_caches(), torch.empty_like(story.q[0])
    with pytest.raises(KernelArgumentError, match="window"):
        backend.paged_attention(story.q[0], *caches, batch, 1.0, 0, out)
    with pytest.raises(KernelArgumentError, match="share"):
        backend.paged_attention(story.q[0][:, :3].contiguous(), *caches, batch, 1.0, None, out)
    with pytest.raises(KernelArgumentError, match="v_cache"):
        backend.paged_attention(story.q[0], caches[0], caches[1].float(), batch, 1.0, None, out)
    with pytest.raises(KernelArgumentError, match="slots"):
        backend.store_kv(story.k[0][:2], story.v[0][:2], *caches, batch)
