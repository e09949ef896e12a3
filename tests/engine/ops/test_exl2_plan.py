"""The plan of who multiplies what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ops.exl2 import WIDTHS
from engine.ops.exl2_plan import SEGMENT_WORDS, WARPS, TiledMatrix, blocks_for, most_segments, most_slots, plan

tile_widths = st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=60).map(
    lambda widths: sorted(widths, reverse=True)
)
tiled = st.builds(
    lambda widths, column_blocks: TiledMatrix([0, *accumulate(widths)], column_blocks),
    tile_widths,
    st.integers(1, 12),
)
together = st.lists(tiled, min_size=1, max_size=4)


def blocks_of(matrices: Sequence[TiledMatrix], processors: int) -> int:
    return blocks_for(sum(matrix.tiles for matrix in matrices), processors)


@settings(max_examples=200)
@given(matrices=together, processors=st.integers(1, 20))
def test_every_tile_is_multiplied_once_and_in_order(matrices: list[TiledMatrix], processors: int) -> None:
    blocks = blocks_of(matrices, processors)
    work = plan(matrices, blocks)
    tiles = [
        (segment.matrix, segment.column_block, tile)
        for segment in work.segments
        for first, end in pairwise(segment.bounds)
        for tile in range(first, end)
    ]
    assert tiles == [
        (index, block, tile)
        for index, matrix in enumerate(matrices)
        for block in range(matrix.column_blocks)
        for tile in range(len(matrix.tile_starts) - 1)
    ]
    assert work.first_segments[0] == 0
    column_blocks = sum(matrix.column_blocks for matrix in matrices)
    assert work.first_segments[-1] == len(work.segments) <= most_segments(column_blocks, blocks)
    assert len(work.first_segments) == blocks + 1
    assert list(work.first_segments) == sorted(set(work.first_segments)), "every block has a segment"


@settings(max_examples=200)
@given(matrices=together, processors=st.integers(1, 20))
def test_bytes_are_shared_out_evenly(matrices: list[TiledMatrix], processors: int) -> None:
    blocks = blocks_of(matrices, processors)
    work = plan(matrices, blocks)
    widest = max(WIDTHS)
    for first, end in pairwise(work.first_segments):
        size = 0
        for segment in work.segments[first:end]:
            starts = matrices[segment.matrix].tile_starts
            whole = starts[segment.bounds[-1]] - starts[segment.bounds[0]]
            size += whole
            for warp_first, warp_end in pairwise(segment.bounds):
                assert starts[warp_end] - starts[warp_first] <= whole / WARPS + widest
        assert size <= sum(matrix.size for matrix in matrices) / blocks + widest


@settings(max_examples=200)
@given(matrices=together, processors=st.integers(1, 20))
def test_shares_of_a_column_block_have_slots_side_by_side(matrices: list[TiledMatrix], processors: int) -> None:
    work = plan(matrices, blocks_of(matrices, processors))
    used: set[int] = set()
    for place in {(each.matrix, each.column_block) for each in work.segments}:
        shares = [each for each in work.segments if (each.matrix, each.column_block) == place]
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
    small = TiledMatrix([0, 4, 8, 11], 2)
    segment = plan([small, small], 1).segments[3]
    assert segment.words(7) == [1, 0, 0, 1, *segment.bounds, 1, 7, 0]
    assert len(segment.words(0)) == SEGMENT_WORDS


@settings(max_examples=100)
@given(matrices=together, processors=st.integers(1, 20))
def test_a_block_finds_its_segments_from_its_own_number_on(matrices: list[TiledMatrix], processors: int) -> None:
    blocks = blocks_of(matrices, processors)
    work = plan(matrices, blocks)
    words = work.words()
    found = []
    for block in range(blocks):
        index = block
        while True:
            found.append(words[index])
            index = words[index][14]
            if index == 0:
                break
            assert index >= blocks
    assert [each[:14] for each in found] == [each.words(0)[:14] for each in work.segments]
    assert len(words) == len(work.segments)


def test_small_matrices_do_not_spread_thin() -> None:
    assert blocks_for(1, 132) == 1
    assert blocks_for(1024, 132) == 128
    assert blocks_for(4096, 132) == 264
