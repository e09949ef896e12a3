"""Who multiplies which tiles of EXL2 matrices on a GPU: decided once, when they are loaded.

Matrices of the same inputs are multiplied together. All tiles, matrix by matrix and column block by column block, are
cut into as many runs of equal bytes as there are blocks of threads. Where a run crosses from one column block into the
next it falls into *segments*, and the tiles of a segment are cut again, by bytes, for the block's warps. The segments
of one column block are its *shares*; their sums are added in order. The plan knows nothing of the rows to be
multiplied, so that the order of additions, and with it every bit of a row's result, is the same for any number of rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

WARPS = 8
"""Warps of a block; kWarps in cuda_ext/csrc/exl2/matmul.cuh."""

SEGMENT_WORDS = 16
"""Numbers a segment takes on the device."""


@dataclass(frozen=True, slots=True)
class TiledMatrix:
    """What a plan must know of a matrix.

    Attributes:
        tile_starts: byte, or any unit, at which each tile of a column block begins, and the size of a column block.
        column_blocks: how many there are; all are alike.
    """

    tile_starts: Sequence[int]
    column_blocks: int

    @property
    def size(self) -> int:
        """Of all column blocks."""
        return self.tile_starts[-1] * self.column_blocks

    @property
    def tiles(self) -> int:
        """Of all column blocks."""
        return (len(self.tile_starts) - 1) * self.column_blocks


@dataclass(frozen=True, slots=True)
class Segment:
    """One block's share of one column block.

    Attributes:
        matrix: which.
        column_block: which of the matrix.
        slot: where in the workspace its sum goes; 0 where it is the whole column block, whose sum goes nowhere else.
        first_slot: slot of the column block's first share; the others follow.
        shares: how many the column block has.
        bounds: WARPS + 1 tile indices; warp w multiplies tiles bounds[w] … bounds[w + 1] - 1.
    """

    matrix: int
    column_block: int
    slot: int
    first_slot: int
    shares: int
    bounds: tuple[int, ...]

    def words(self, following: int) -> list[int]:
        """As the kernel reads it; `following` is the index of the block's next segment, 0 if there is none."""
        numbers = [self.column_block, self.slot, self.first_slot, self.shares, *self.bounds, self.matrix, following]
        return numbers + [0] * (SEGMENT_WORDS - len(numbers))


@dataclass(frozen=True, slots=True)
class Plan:
    """The segments of every block of threads.

    Attributes:
        segments: block after block, each in the order in which it works.
        first_segments: index of each block's first segment, and the number of segments. No block is without one.
    """

    segments: tuple[Segment, ...]
    first_segments: tuple[int, ...]

    def words(self) -> list[list[int]]:
        """As the kernel reads it: first segments before all others, so that a block finds its own by its number."""
        first: list[list[int]] = []
        others: list[list[int]] = []
        blocks = len(self.first_segments) - 1
        for start, end in pairwise(self.first_segments):
            next_place = blocks + len(others)
            following = [*range(next_place, next_place + end - start - 1), 0]
            own = [each.words(place) for each, place in zip(self.segments[start:end], following, strict=True)]
            first.append(own[0])
            others += own[1:]
        return first + others


def blocks_for(tiles: int, processors: int) -> int:
    """Blocks of threads worth starting for so many tiles: two for each processor, but a tile for every warp."""
    return max(1, min(2 * processors, tiles // WARPS))


def most_segments(column_blocks: int, blocks: int) -> int:
    """No plan has more segments than this: a cut between blocks or between column blocks begins one."""
    return column_blocks + blocks - 1


def most_slots(processors: int) -> int:
    """No plan for so many processors has more slots than this: a cut between blocks makes one share, or two of one."""
    return 2 * (2 * processors - 1)


def plan(matrices: Sequence[TiledMatrix], blocks: int) -> Plan:
    """Cut the work.

    Args:
        matrices: that are multiplied together.
        blocks: blocks of threads.
    """
    begins = list(accumulate((matrix.size for matrix in matrices), initial=0))
    cuts = [_covering_tile(matrices, begins, begins[-1] * block // blocks) for block in range(blocks)]
    cuts.append((len(matrices), 0, 0))
    pieces: list[tuple[int, int, int, int]] = []
    first_segments = [0]
    for start, end in pairwise(cuts):
        pieces += _pieces(matrices, start, end)
        first_segments.append(len(pieces))
    shares = Counter((matrix, column_block) for matrix, column_block, _, _ in pieces)
    segments: list[Segment] = []
    next_slot = first_slot = 0
    for matrix, column_block, first, last in pieces:
        bounds = _warp_bounds(matrices[matrix].tile_starts, first, last)
        count = shares[matrix, column_block]
        if count == 1:
            segments.append(Segment(matrix, column_block, 0, 0, 1, bounds))
            continue
        if first == 0:
            first_slot = next_slot
        segments.append(Segment(matrix, column_block, next_slot, first_slot, count, bounds))
        next_slot += 1
    return Plan(tuple(segments), tuple(first_segments))


def _covering_tile(matrices: Sequence[TiledMatrix], begins: Sequence[int], position: int) -> tuple[int, int, int]:
    """(matrix, column block, tile) that covers a position in the whole."""
    matrix = bisect_right(begins, position) - 1
    starts = matrices[matrix].tile_starts
    column_block, within = divmod(position - begins[matrix], starts[-1])
    return matrix, column_block, bisect_right(starts, within) - 1


def _pieces(
    matrices: Sequence[TiledMatrix], start: tuple[int, int, int], end: tuple[int, int, int]
) -> list[tuple[int, int, int, int]]:
    """(matrix, column block, first tile, end) of each column block between two cuts; none is empty."""
    pieces = []
    matrix, column_block, first = start
    while (matrix, column_block, first) < end:
        tiled = matrices[matrix]
        last = end[2] if (matrix, column_block) == end[:2] else len(tiled.tile_starts) - 1
        pieces.append((matrix, column_block, first, last))
        column_block, first = column_block + 1, 0
        if column_block == tiled.column_blocks:
            matrix, column_block = matrix + 1, 0
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
