"""Paged attention's own CUDA source on the emulated device, against float64; what its result does not depend on."""

from __future__ import annotations

import pytest
import torch

from engine.errors import KernelArgumentError
from engine.ops.cuda_backend import CudaBackend
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.kernels.cases import assert_close
from tests.kernels.test_attention import Setting, Story, whole

TOLERANCE = {torch.float16: 6e-4, torch.bfloat16: 5e-3}  # of the output's rounding


def story_for(backend: CudaBackend, setting: Setting, lengths: list[int], seed: int = 0) -> Story:
    story = Story(setting, lengths, seed)
    for tensors in (story.q, story.k, story.v):
        tensors[:] = [each.to(backend.activation_dtype) for each in tensors]
    return story


def attend(story: Story, backend: CudaBackend, spans: list[tuple[int, int, int]]) -> torch.Tensor:
    """Store whole sequences, then attend with the rows of some spans only."""
    caches = story.empty_caches()
    everything = story.batch([(s, 0, n) for s, n in enumerate(story.lengths)])
    backend.store_kv(torch.cat(story.k), torch.cat(story.v), *caches, everything)
    q = torch.cat([story.q[s][begin:end] for s, begin, end in spans])
    out = torch.full_like(q, float("nan"))
    setting = story.setting
    backend.paged_attention(q, *caches, story.batch(spans), setting.scale, setting.window, out)
    return out


@pytest.mark.parametrize(
    ("setting", "lengths"),
    [
        (Setting(4, 4, 64, 16), [1, 130]),
        (Setting(4, 2, 64, 5), [300, 127]),
        (Setting(7, 1, 128, 16), [129, 256]),
        (Setting(6, 2, 96, 16, dtype=torch.bfloat16), [200]),
        (Setting(3, 1, 256, 48), [140]),
        (Setting(2, 1, 24, 1, dtype=torch.float32), [133]),
        (Setting(11, 1, 8, 256), [260]),
        (Setting(4, 2, 64, 16, window=1), [130]),
        (Setting(4, 2, 64, 16, window=128), [128, 129]),
        (Setting(4, 2, 64, 16, window=150), [400]),
    ],
    ids=str,
)
def test_decode_equals_float64(backend: CudaBackend, setting: Setting, lengths: list[int]) -> None:
    story = story_for(backend, setting, lengths)
    out = attend(story, backend, [(s, n - 1, n) for s, n in enumerate(lengths)])
    for sequence, row in enumerate(out):
        assert_close(row, story.expected(sequence)[-1], TOLERANCE[backend.activation_dtype])


def test_prompts_equal_float64(backend: CudaBackend) -> None:
    story = story_for(backend, Setting(4, 2, 32, 4, window=20), [33, 6])
    outputs, _ = story.run(backend, whole([33, 6]))
    for sequence, output in enumerate(outputs):
        assert_close(output, story.expected(sequence), TOLERANCE[backend.activation_dtype])


def test_neighbours_chunking_and_workspace_do_not_matter(emulated: EmulatedRuntime) -> None:
    roomy, bare = CudaBackend(emulated), CudaBackend(emulated, workspace_bytes=0)
    for window in (None, 140):
        story = story_for(roomy, Setting(4, 2, 16, 16, window=window), [290, 40, 129])
        decode = [(0, 289, 290), (1, 39, 40), (2, 128, 129)]
        expected = attend(story, roomy, decode)
        assert torch.equal(attend(story, bare, decode), expected)
        for row, span in enumerate(decode):
            for backend in (roomy, bare):
                assert torch.equal(attend(story, backend, [span])[0], expected[row])
        assert torch.equal(attend(story, roomy, [(0, 280, 290), (2, 120, 129)])[[9, 18]], expected[[0, 2]])


@pytest.mark.parametrize(("schedule", "seed"), [(Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1)])
@pytest.mark.parametrize("workspace_bytes", [0, 1 << 20])
def test_the_order_of_threads_and_blocks_does_not_matter(
    emulated: EmulatedRuntime, schedule: Schedule, seed: int, workspace_bytes: int
) -> None:
    backend = CudaBackend(emulated, workspace_bytes=workspace_bytes)
    story = story_for(backend, Setting(4, 2, 64, 16), [260])
    expected = attend(story, backend, [(0, 259, 260)])
    with emulated.in_order(schedule, seed):
        assert torch.equal(attend(story, backend, [(0, 259, 260)]), expected)


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


def test_large_scores_and_unwritten_values_stay_out(emulated: EmulatedRuntime) -> None:
    backend = CudaBackend(emulated)
    story = story_for(backend, Setting(2, 1, 16, 16), [80])
    story.q[0].mul_(1000)
    caches = tuple(cache.fill_(torch.nan) for cache in story.empty_caches())
    backend.store_kv(story.k[0], story.v[0], *caches, story.batch([(0, 0, 80)]))
    out = torch.full_like(story.q[0][-1:], torch.nan)
    backend.paged_attention(story.q[0][-1:].clone(), *caches, story.batch([(0, 79, 80)]), 0.25, None, out)
    assert_close(out[0], story.expected(0)[-1], 2e-3)


def test_wrong_arguments_are_refused(backend: CudaBackend) -> None:
    story = story_for(backend, Setting(4, 2, 24), [3])
    batch, caches, out = story.batch([(0, 0, 3)]), story.empty_caches(), torch.empty_like(story.q[0])
    with pytest.raises(KernelArgumentError, match="window"):
        backend.paged_attention(story.q[0], *caches, batch, 1.0, 0, out)
    with pytest.raises(KernelArgumentError, match="share"):
        backend.paged_attention(story.q[0][:, :3].contiguous(), *caches, batch, 1.0, None, out)
    with pytest.raises(KernelArgumentError, match="v_cache"):
        backend.paged_attention(story.q[0], caches[0], caches[1].float(), batch, 1.0, None, out)
    odd = story_for(backend, Setting(1, 1, 12), [3])
    with pytest.raises(KernelArgumentError, match="multiples of 8 up to 256, not 12"):
        backend.paged_attention(odd.q[0], *odd.empty_caches(), odd.batch([(0, 0, 3)]), 1.0, None, odd.q[0].clone())
