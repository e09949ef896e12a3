"""Paged attention's own CUDA source on the emulated device, against float64; what its result does not depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from cuda_ext.loader import DeviceInfo, Library
from engine.errors import KernelArgumentError
from engine.ops.backend import AttentionBatch
from engine.ops.cuda_backend import CudaBackend
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.kernels.cases import assert_close
from tests.kernels.test_attention import Setting, Story, whole

BEYOND_ROUNDING = {torch.float16: 5e-4, torch.bfloat16: 1e-5}
"""What may be added to the rounding of a result, relative to the largest. Float16 weights have 11 bits, others 16."""

Span = tuple[int, int, int]


@dataclass(frozen=True)
class OldCard:
    """The emulated device, but one whose tensor cores have no tiles of 16 x 8 x 16: kernels for any card run."""

    runtime: EmulatedRuntime

    @property
    def library(self) -> Library:
        return self.runtime.library

    @property
    def device(self) -> torch.device:
        return self.runtime.device

    @property
    def info(self) -> DeviceInfo:
        info = self.runtime.info
        info.capability_major = 7
        return info

    def stream(self) -> int:
        return 0


def assert_rounded(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """As near to `expected` as the type of `actual` allows, but for BEYOND_ROUNDING."""
    assert actual.shape == expected.shape
    rounding = (expected.to(actual.dtype).double() - expected).abs()
    beyond = ((actual.double() - expected).abs() - rounding).max() / expected.abs().max()
    assert beyond <= BEYOND_ROUNDING[actual.dtype], f"{beyond:.2e} beyond rounding"


def story_for(backend: CudaBackend, setting: Setting, lengths: list[int], seed: int = 0) -> Story:
    story = Story(setting, lengths, seed)
    for tensors in (story.q, story.k, story.v):
        tensors[:] = [each.to(backend.activation_dtype) for each in tensors]
    return story


def story_on_tensor_cores(backend: CudaBackend, setting: Setting, lengths: list[int]) -> Story:
    return story_for(backend, replace(setting, dtype=backend.activation_dtype), lengths)


def filled_caches(story: Story, backend: CudaBackend) -> tuple[torch.Tensor, torch.Tensor]:
    """Caches that hold all sequences to their ends."""
    caches = story.empty_caches()
    everything = story.batch([(s, 0, n) for s, n in enumerate(story.lengths)])
    backend.store_kv(torch.cat(story.k), torch.cat(story.v), *caches, everything)
    return caches


def attend(
    story: Story,
    backend: CudaBackend,
    spans: list[Span],
    batch: AttentionBatch | None = None,
    places: torch.Tensor | None = None,
) -> torch.Tensor:
    """Attend with the rows of some spans, over whole sequences. Further rows of `batch` get queries of 1."""
    batch = story.batch(spans) if batch is None else batch
    q = torch.ones(len(batch.slots), story.setting.q_heads, story.setting.head_dim, dtype=backend.activation_dtype)
    rows = torch.cat([story.q[s][begin:end] for s, begin, end in spans])
    q[: len(rows)] = rows
    out = torch.full_like(q, float("nan"))
    setting = story.setting
    backend.paged_attention(q, *filled_caches(story, backend), batch, setting.scale, setting.window, out, places)
    return out


def last_tokens(story: Story) -> list[Span]:
    return [(s, n - 1, n) for s, n in enumerate(story.lengths)]


SETTINGS = [
    (Setting(4, 4, 64, 16), [1, 130]),
    (Setting(4, 2, 64, 5), [300, 127]),
    (Setting(7, 1, 128, 16), [129, 256]),
    (Setting(6, 2, 96, 16), [200]),
    (Setting(3, 1, 256, 48), [140]),
    (Setting(2, 1, 24, 1), [133]),
    (Setting(11, 1, 8, 256), [260]),
    (Setting(20, 1, 40, 16), [150]),
    (Setting(4, 2, 64, 16, window=1), [130]),
    (Setting(4, 2, 64, 16, window=128), [128, 129]),
    (Setting(4, 2, 64, 16, window=150), [400]),
]
settings_and_lengths = pytest.mark.parametrize(("setting", "lengths"), SETTINGS, ids=str)


@settings_and_lengths
def test_decode_on_tensor_cores_equals_float64(backend: CudaBackend, setting: Setting, lengths: list[int]) -> None:
    story = story_on_tensor_cores(backend, setting, lengths)
    for sequence, row in enumerate(attend(story, backend, last_tokens(story))):
        assert_rounded(row, story.expected(sequence)[-1])


@settings_and_lengths
def test_prompts_on_tensor_cores_equal_float64(backend: CudaBackend, setting: Setting, lengths: list[int]) -> None:
    story = story_on_tensor_cores(backend, setting, lengths)
    outputs, _ = story.run(backend, whole(lengths))
    for sequence, output in enumerate(outputs):
        assert_rounded(output, story.expected(sequence))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize(("setting", "lengths"), SETTINGS[::2], ids=str)
def test_decode_on_any_card_equals_float64(
    emulated: EmulatedRuntime, setting: Setting, lengths: list[int], dtype: torch.dtype
) -> None:
    backend = CudaBackend(OldCard(emulated))
    story = story_for(backend, replace(setting, dtype=dtype), lengths)
    for sequence, row in enumerate(attend(story, backend, last_tokens(story))):
        assert_rounded(row, story.expected(sequence)[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_prompts_over_a_cache_of_any_type_equal_float64(backend: CudaBackend, dtype: torch.dtype) -> None:
    story = story_for(backend, Setting(4, 2, 32, 4, window=20, dtype=dtype), [33, 6])
    outputs, _ = story.run(backend, whole([33, 6]))
    for sequence, output in enumerate(outputs):
        assert_rounded(output, story.expected(sequence))


@pytest.mark.parametrize("window", [None, 140])
@pytest.mark.parametrize("workspace_bytes", [0, 3000, 1 << 20])
def test_a_token_has_the_same_bits_in_a_prompt_a_piece_of_one_and_alone(
    emulated: EmulatedRuntime, window: int | None, workspace_bytes: int
) -> None:
    backend = CudaBackend(emulated, workspace_bytes=workspace_bytes)
    story = story_for(backend, Setting(4, 2, 16, 16, window=window), [290, 131])
    in_one, _ = story.run(backend, whole([290, 131]))
    mixed = [(0, 130, 290), (1, 130, 131)]
    pieces = attend(story, backend, mixed)
    assert torch.equal(pieces[:160], in_one[0][130:])
    assert torch.equal(pieces[160], in_one[1][130])
    for span in [(0, 289, 290), (0, 280, 288), (0, 255, 257), (1, 127, 131), (1, 0, 1)]:
        assert torch.equal(attend(story, backend, [span]), in_one[span[0]][span[1] : span[2]])


def test_any_card_gives_the_same_bits_in_any_company(emulated: EmulatedRuntime) -> None:
    roomy, bare = CudaBackend(OldCard(emulated)), CudaBackend(OldCard(emulated), workspace_bytes=0)
    story = story_for(roomy, Setting(4, 2, 16, 16, window=140), [290, 40, 129])
    expected = attend(story, roomy, last_tokens(story))
    assert torch.equal(attend(story, bare, last_tokens(story)), expected)
    for row, span in enumerate(last_tokens(story)):
        for backend in (roomy, bare):
            assert torch.equal(attend(story, backend, [span])[0], expected[row])
    assert torch.equal(attend(story, roomy, [(0, 280, 290), (2, 120, 129)])[[9, 18]], expected[[0, 2]])


@pytest.mark.parametrize("workspace_bytes", [0, 1 << 20])
@pytest.mark.parametrize("old", [False, True])
def test_features_go_to_their_places(emulated: EmulatedRuntime, old: bool, workspace_bytes: int) -> None:
    backend = CudaBackend(OldCard(emulated) if old else emulated, workspace_bytes=workspace_bytes)
    story = story_for(backend, Setting(6, 2, 24, 16), [260, 40])
    spans = [(0, 259, 260), (1, 1, 40)]
    places = torch.randperm(6 * 24, generator=torch.Generator().manual_seed(1)).to(torch.int32)
    moved = attend(story, backend, spans, places=places)
    assert torch.equal(moved.flatten(1)[:, places.long()], attend(story, backend, spans).flatten(1))


@pytest.mark.parametrize(("schedule", "seed"), [(Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1)])
@pytest.mark.parametrize("workspace_bytes", [0, 1 << 20])
@pytest.mark.parametrize("head_dim", [64, 256])
def test_the_order_of_threads_and_blocks_does_not_matter(
    emulated: EmulatedRuntime, schedule: Schedule, seed: int, workspace_bytes: int, head_dim: int
) -> None:
    for runtime in (emulated, OldCard(emulated)):
        backend = CudaBackend(runtime, workspace_bytes=workspace_bytes)
        story = story_for(backend, Setting(4, 2, head_dim, 16), [260, 140])
        spans = [(0, 259, 260), (1, 120, 140)]
        expected = attend(story, backend, spans)
        with emulated.in_order(schedule, seed):
            assert torch.equal(attend(story, backend, spans), expected)


@pytest.mark.parametrize("old", [False, True])
def test_a_padded_step_gives_the_bits_of_its_own_shapes(emulated: EmulatedRuntime, old: bool) -> None:
    """What a recorded step does: shapes stay those of its bucket, whatever the tensors say."""
    backend = CudaBackend(OldCard(emulated) if old else emulated)
    story = story_for(backend, Setting(4, 2, 16, 16), [290, 40, 129])
    bucket = AttentionBatch(
        query_start=torch.zeros(6, dtype=torch.int32),
        context_lens=torch.zeros(5, dtype=torch.int32),
        block_tables=torch.zeros(5, 40, dtype=torch.int32),
        slots=torch.full((5,), -1, dtype=torch.int32),
    )
    for spans in (last_tokens(story), [(2, 100, 101)], [(1, 3, 4), (0, 200, 201)]):
        own = story.batch(spans)
        count, width = own.block_tables.shape
        bucket.query_start.fill_(count)[: count + 1] = own.query_start
        bucket.context_lens.zero_()[:count] = own.context_lens
        bucket.block_tables.zero_()[:count, :width] = own.block_tables
        bucket.slots.fill_(-1)[:count] = own.slots
        out = attend(story, backend, spans, bucket)
        assert torch.equal(out[:count], attend(story, backend, spans))
        assert out[count:].isnan().all()


def test_rows_of_no_sequence_are_left_alone(emulated: EmulatedRuntime) -> None:
    backend = CudaBackend(emulated)
    story = story_for(backend, Setting(2, 1, 16, 16), [20])
    batch, caches = story.batch([(0, 19, 20)]), story.empty_caches()
    q = torch.ones(3, 2, 16, dtype=torch.float16)
    out = torch.full_like(q, 7.0)
    caches[1].fill_(3.0)
    backend.paged_attention(q, *caches, batch, 1.0, None, out)
    assert out[0].eq(3).all()
    assert out[1:].eq(7).all()


@pytest.mark.parametrize("first", [79, 40])
def test_large_scores_and_unwritten_values_stay_out(emulated: EmulatedRuntime, first: int) -> None:
    for runtime in (emulated, OldCard(emulated)):
        backend = CudaBackend(runtime)
        story = story_for(backend, Setting(2, 1, 16, 16), [80])
        story.q[0].mul_(1000)
        caches = story.empty_caches()
        for cache in caches:
            cache.fill_(torch.nan)
        backend.store_kv(story.k[0], story.v[0], *caches, story.batch([(0, 0, 80)]))
        out = torch.full_like(story.q[0][first:], torch.nan)
        backend.paged_attention(story.q[0][first:].clone(), *caches, story.batch([(0, first, 80)]), 0.25, None, out)
        assert_close(out, story.expected(0)[first:], 2e-3)


def test_wrong_arguments_are_refused(backend: CudaBackend) -> None:
    story = story_for(backend, Setting(4, 2, 24), [3])
    batch, caches, out = story.batch([(0, 0, 3)]), story.empty_caches(), torch.empty_like(story.q[0])
    with pytest.raises(KernelArgumentError, match="window"):
        backend.paged_attention(story.q[0], *caches, batch, 1.0, 0, out)
    with pytest.raises(KernelArgumentError, match="share"):
        backend.paged_attention(story.q[0][:, :3].contiguous(), *caches, batch, 1.0, None, out)
    with pytest.raises(KernelArgumentError, match="v_cache"):
        backend.paged_attention(story.q[0], caches[0], caches[1].float(), batch, 1.0, None, out)
    shifted = torch.empty(out.numel() + 1, dtype=out.dtype)[1:].view(out.shape)
    with pytest.raises(KernelArgumentError, match="q must begin at a multiple of 16 bytes"):
        backend.paged_attention(shifted, *caches, batch, 1.0, None, out)
    for places in (torch.zeros(4 * 24, dtype=torch.int64), torch.zeros(24, dtype=torch.int32)):
        with pytest.raises(KernelArgumentError, match="places"):
            backend.paged_attention(story.q[0], *caches, batch, 1.0, None, out, places)
    odd = story_for(backend, Setting(1, 1, 12), [3])
    with pytest.raises(KernelArgumentError, match="multiples of 8 up to 256, not 12"):
        backend.paged_attention(odd.q[0], *odd.empty_caches(), odd.batch([(0, 0, 3)]), 1.0, None, odd.q[0].clone())
