"""Who multiplies which tiles of an EXL2 matrix on a GPU: decided once, when the matrix is loaded.

All tiles, column block by column block, are cut into as many runs of equal bytes as there are blocks of threads. Where
a run crosses from one column block into the next it falls into *segments*, and the tiles of a segment are cut again, by
bytes, for the block's warps. The segments of one column block are its *shares*; their sums are added in order. The plan
knows nothing of the rows to be multiplied, so that the order of additions, and with it every bit of a row's result, is
the same for any number of rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

WARPS = 8
"""Warps of a block; kWarps in cuda_ext/csrc/exl2/matmul.cuh."""

SEGMENT_WORDS = 16
"""Numbers a segment takes on the device."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One block's share of one column block.

    Attributes:
        column_block: which.
        slot: where in the workspace its sum goes; 0 where it is the whole column block, whose sum goes nowhere else.
        first_slot: slot of the column block's first share; the others follow.
        shares: how many the column block has.
        bounds: WARPS + 1 tile indices; warp w multiplies tiles bounds[w] … bounds[w + 1] - 1.
    """

    column_block: int
    slot: int
    first_slot: int
    shares: int
    bounds: tuple[int, ...]

    @property
    def words(self) -> list[int]:
        """As the kernel reads it."""
        numbers = [self.column_block, self.slot, self.first_slot, self.shares, *self.bounds]
        return numbers + [0] * (SEGMENT_WORDS - len(numbers))


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments of every block of threads.

    Attributes:
        segments: block after block, each in the order in which it works.
        first_segments: index of each block's first segment, and the number of segments.
    """

    segments: tuple[Segment, ...]
    first_segments: tuple[int, ...]


def blocks_for(tiles: int, processors: int) -> int:
    """Blocks of threads worth starting for so many tiles: two for each processor, but a tile for every warp."""
    return max(1, min(2 * processors, tiles // WARPS))


def most_segments(column_blocks: int, blocks: int) -> int:
    """No plan has more segments than this: a cut between blocks or between column blocks begins one."""
    return column_blocks + blocks - 1


def most_slots(processors: int) -> int:
    """No plan for so many processors has more slots than this: a cut between blocks makes one share, or two of one."""
    return 2 * (2 * processors - 1)


def plan(tile_starts: Sequence[int], column_blocks: int, blocks: int) -> Plan:
    """Cut the work.

    Args:
        tile_starts: byte, or any unit, at which each tile of a column block begins, and the size of a column block.
        column_blocks: how many there are; all are alike.
        blocks: blocks of threads.
    """
    total = tile_starts[-1] * column_blocks
    cuts = [_covering_tile(tile_starts, total * block // blocks) for block in range(blocks)]
    cuts.append((column_blocks, 0))
    pieces: list[tuple[int, int, int]] = []
    first_segments = [0]
    for start, end in pairwise(cuts):
        pieces += _pieces(start, end, len(tile_starts) - 1)
        first_segments.append(len(pieces))
    shares = Counter(column_block for column_block, _, _ in pieces)
    segments: list[Segment] = []
    next_slot = first_slot = 0
    for column_block, first, last in pieces:
        bounds = _warp_bounds(tile_starts, first, last)
        if shares[column_block] == 1:
            segments.append(Segment(column_block, 0, 0, 1, bounds))
            continue
        if first == 0:
            first_slot = next_slot
        segments.append(Segment(column_block, next_slot, first_slot, shares[column_block], bounds))
        next_slot += 1
    return Plan(tuple(segments), tuple(first_segments))


def _covering_tile(tile_starts: Sequence[int], position: int) -> tuple[int, int]:
    """(column block, tile) that covers a position in the whole."""
    column_block, within = divmod(position, tile_starts[-1])
    return column_block, bisect_right(tile_starts, within) - 1


def _pieces(start: tuple[int, int], end: tuple[int, int], tiles: int) -> list[tuple[int, int, int]]:
    """(column block, first tile, end) of each column block between two cuts; none is empty."""
    pieces = []
    column_block, first = start
    while (column_block, first) < end:
        last = end[1] if column_block == end[0] else tiles
        pieces.append((column_block, first, last))
        column_block, first = column_block + 1, 0
    return pieces


def _warp_bounds(tile_starts: Sequence[int], first: int, end: int) -> tuple[int, ...]:
    """Cuts tiles first … end - 1 into WARPS runs of about equal bytes, at the tile boundary nearest to each."""
    begin, size = tile_starts[first], tile_starts[end] - tile_starts[first]
    bounds = [first]
    for warp in range(1, WARPS):
        position = begin + size * warp // WARPS
        tile = bisect_right(tile_starts, position) - 1
        if 2 * position > tile_starts[tile] + tile_starts[tile + 1]:
            tile += 1
        bounds.append(max(bounds[-1], tile))
    return (*bounds, end)
