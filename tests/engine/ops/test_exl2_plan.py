"""The plan of who multiplies what."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ops.exl2 import WIDTHS
from engine.ops.exl2_plan import SEGMENT_WORDS, WARPS, blocks_for, most_segments, most_slots, plan

tile_widths = st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=60).map(
    lambda widths: sorted(widths, reverse=True)
)


@settings(max_examples=200, deadline=None)
@given(widths=tile_widths, column_blocks=st.integers(1, 12), processors=st.integers(1, 20))
def test_every_tile_is_multiplied_once_and_in_order(widths: list[int], column_blocks: int, processors: int) -> None:
    starts = [0, *accumulate(widths)]
    blocks = blocks_for(len(widths) * column_blocks, processors)
    work = plan(starts, column_blocks, blocks)
    tiles = [
        (segment.column_block, tile)
        for segment in work.segments
        for first, end in zip(segment.bounds, segment.bounds[1:], strict=False)
        for tile in range(first, end)
    ]
    assert tiles == [(block, tile) for block in range(column_blocks) for tile in range(len(widths))]
    assert work.first_segments[0] == 0
    assert work.first_segments[-1] == len(work.segments) <= most_segments(column_blocks, blocks)
    assert len(work.first_segments) == blocks + 1
    assert list(work.first_segments) == sorted(work.first_segments)


@settings(max_examples=200, deadline=None)
@given(widths=tile_widths, column_blocks=st.integers(1, 12), processors=st.integers(1, 20))
def test_bytes_are_shared_out_evenly(widths: list[int], column_blocks: int, processors: int) -> None:
    starts = [0, *accumulate(widths)]
    blocks = blocks_for(len(widths) * column_blocks, processors)
    work = plan(starts, column_blocks, blocks)
    for first, end in zip(work.first_segments, work.first_segments[1:], strict=False):
        segments = work.segments[first:end]
        size = sum(starts[each.bounds[-1]] - starts[each.bounds[0]] for each in segments)
        assert size <= starts[-1] * column_blocks / blocks + max(widths)
        for segment in segments:
            whole = starts[segment.bounds[-1]] - starts[segment.bounds[0]]
            for warp_first, warp_end in zip(segment.bounds, segment.bounds[1:], strict=False):
                assert starts[warp_end] - starts[warp_first] <= whole / WARPS + max(widths)


@settings(max_examples=200, deadline=None)
@given(widths=tile_widths, column_blocks=st.integers(1, 12), processors=st.integers(1, 20))
def test_shares_of_a_column_block_have_slots_side_by_side(
    widths: list[int], column_blocks: int, processors: int
) -> None:
    work = plan([0, *accumulate(widths)], column_blocks, blocks_for(len(widths) * column_blocks, processors))
    used: set[int] = set()
    for block in range(column_blocks):
        shares = [each for each in work.segments if each.column_block == block]
        assert {each.shares for each in shares} == {len(shares)}
        if len(shares) == 1:
            continue
        first = shares[0].first_slot
        assert [each.slot for each in shares] == list(range(first, first + len(shares)))
        assert {each.first_slot for each in shares} == {first}
        assert used.isdisjoint(each.slot for each in shares)
        used.update(each.slot for each in shares)
    assert len(used) <= most_slots(processors)
    assert all(slot < most_slots(processors) for slot in used)


def test_a_segment_is_told_in_sixteen_words() -> None:
    segment = plan([0, 4, 8, 11], 2, 1).segments[1]
    assert segment.words == [1, 0, 0, 1, *segment.bounds, 0, 0, 0]
    assert len(segment.words) == SEGMENT_WORDS


def test_small_matrices_do_not_spread_thin() -> None:
    assert blocks_for(1, 132) == 1
    assert blocks_for(1024, 132) == 128
    assert blocks_for(4096, 132) == 264
