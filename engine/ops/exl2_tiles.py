"""The layout EXL2 matrices have on a GPU: whole tiles in the order in which a warp's matrix instructions want them.

A *tile* is 32 stored rows by 128 columns of one bit width b, 512 b bytes, and one warp multiplies it at a time:

    column block 0                                   column block 1
    ┌────────┬────────┬─────┬──────────────┐         ┌────────┬─────
    │ tile 0 │ tile 1 │ …   │ tile K/32 - 1│         │ tile 0 │ …      widths fall to the right
    └────────┴────────┴─────┴──────────────┘         └────────┴─────
       │
       └── b planes of 512 bytes:   lane 0 │ lane 1 │ … │ lane 31   of 16 bytes, so that a warp reads a plane at once

A lane owns the 128 weights of the tile that its fragments of A take in `mma.m16n8k16`, columns of the matrix being
rows of A. For lane l = 4 g + t they come in 64 pairs of neighbouring rows; pair p = 8 m + 4 k + 2 s + d, with m < 8 and
k, s, d < 2, has

    column 16 m + 8 d + g      rows 16 k + 8 s + 2 t and the next

m counts blocks of 16 columns, k matrix instructions, and 2 s + d registers of the fragment. Fragments of the registers
that `wgmma` reads are the same, so one layout serves both instructions.

Codes are cut into a *low* part of 2, 4 or 8 bits and a *high* part of none, 1 or 2 (3 = 2 + 1, 5 = 4 + 1, 6 = 4 + 2).
The planes of the low parts come first. A pair has the same place in both 16-bit halves of its word, the first row's
code in the lower half.

    low parts, L bits:   word p // (16 / L), at bit L (p % (16 / L))
    high parts, H bits:  word p // (16 / H), at bit H (c % n) + 8 (c // n) + L u

where c and u are quotient and rest of p % (16 / H) by 8 / L, and n = L / H. So the kernel brings a whole byte's worth
of high parts into place above their low parts with one shift.

Scales stay codes of four bits. Beside the tiles, every (column block, group) has a record of 20 words:

    words 2 g and 2 g + 1   of columns 16 m + g and 16 m + 8 + g: word m // 4 of the two, bits 4 (m % 4) and 16 above
    word 16                 the group's unit `half(q_scale_max · prescale / 256)`, in both halves
    words 17 to 19          0
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.ops.exl2 import Exl2Tensors, RowGroup, pack_codes, unpack_codes, unpack_scale_codes

TILE_ROWS = 32
TILE_COLUMNS = 128
PLANE_WORDS = 128
"""Words in one plane of a tile: four for each lane."""
RECORD_WORDS = 20
CODES_AT_ONCE = 1 << 24
"""Codes that are unpacked together; each takes some twenty bytes on the way."""

_PAIRS = 64
_LANES = 32


@dataclass(frozen=True, slots=True)
class Parts:
    """How a code of some width is cut.

    Attributes:
        low: bits in the planes that come first.
        high: bits above them, in the planes that follow; 0 where there are none.
    """

    low: int
    high: int

    @property
    def width(self) -> int:
        return self.low + self.high

    def low_shifts(self) -> list[int]:
        """The bit of each pair's low part within its word."""
        return [self.low * (pair % (16 // self.low)) for pair in range(_PAIRS)]

    def high_shifts(self) -> list[int]:
        """The bit of each pair's high part within its word."""
        per_byte, per_word, bytes_apart = 8 // self.low, 16 // self.high, self.low // self.high
        shifts = []
        for pair in range(_PAIRS):
            byte, field = divmod(pair % per_word, per_byte)
            shifts.append(self.high * (byte % bytes_apart) + 8 * (byte // bytes_apart) + self.low * field)
        return shifts


PARTS = {parts.width: parts for parts in (Parts(2, 0), Parts(2, 1), Parts(4, 0), Parts(4, 1), Parts(4, 2), Parts(8, 0))}
"""How codes of each width are cut."""


def column_blocks(columns: int) -> int:
    """Tiles needed to cover so many columns."""
    return -(-columns // TILE_COLUMNS)


def pack_tiles(tensors: Exl2Tensors) -> torch.Tensor:
    """The codes as tiles, int32 [column blocks, R, 128], for R word rows; columns are padded with codes 0.

    A group's planes stand where its word rows stand in `q_weight`. Works through the column blocks a few at a time:
    unpacked, a matrix is several times as large.
    """
    words, columns = tensors.q_weight.shape
    blocks = column_blocks(columns)
    tiles = torch.empty(blocks, words, PLANE_WORDS, dtype=torch.int32, device=tensors.q_weight.device)
    at_once = max(1, CODES_AT_ONCE // (tensors.in_features * TILE_COLUMNS))
    for first in range(0, blocks, at_once):
        part = slice(first * TILE_COLUMNS, (first + at_once) * TILE_COLUMNS)
        codes = _unpack(tensors, part)
        padding = -codes.shape[1] % TILE_COLUMNS
        codes = torch.nn.functional.pad(codes, (0, padding))
        for group in tensors.groups:
            tiles[first : first + at_once, group.word_slice] = _pack_group(codes[group.row_slice], group.width)
    return tiles


def unpack_tiles(tiles: torch.Tensor, groups: Sequence[RowGroup], columns: int) -> torch.Tensor:
    """`q_weight`, int32 [R, N], from what `pack_tiles` made of it."""
    codes = torch.cat([_unpack_group(tiles[:, group.word_slice], group.width) for group in groups])
    return pack_codes(codes[:, :columns].contiguous(), groups)


def pack_scales(tensors: Exl2Tensors) -> torch.Tensor:
    """The scale records, int32 [column blocks, G, 20]; scale codes of padding columns are 0."""
    codes = unpack_scale_codes(tensors.q_scale)
    groups, columns = codes.shape
    blocks = column_blocks(columns)
    codes = torch.nn.functional.pad(codes, (0, blocks * TILE_COLUMNS - columns)).to(torch.int32)
    # columns 16 m + 8 d + g, with m = 4 w + i: [group, block, w, i, d, g] to [block, group, g, w, i, d]
    codes = codes.reshape(groups, blocks, 2, 4, 2, 8).permute(1, 0, 5, 2, 3, 4)
    steps = torch.arange(4, dtype=torch.int32, device=codes.device)
    shifts = 4 * steps.unsqueeze(-1) + 16 * steps[:2]
    records = torch.zeros(blocks, groups, RECORD_WORDS, dtype=torch.int32, device=codes.device)
    records[..., :16] = (codes << shifts).sum(dim=(-2, -1), dtype=torch.int32).flatten(-2)
    records[..., 16] = torch.stack([scale_units(tensors)] * 2, dim=-1).view(torch.int32).squeeze(-1)
    return records


def scale_units(tensors: Exl2Tensors) -> torch.Tensor:
    """The unit of each group's scale codes, float16 [G]: the format's first rounding, prescale included."""
    return (tensors.q_scale_max.float() * (tensors.prescale / 256)).half()


def tile_table(groups: Sequence[RowGroup]) -> list[tuple[int, int, int]]:
    """(first plane, group, width) of each tile of a column block, from the first stored row on."""
    return [
        (group.first_word + tile * group.width, index, group.width)
        for index, group in enumerate(groups)
        for tile in range(group.rows // TILE_ROWS)
    ]


def _unpack(tensors: Exl2Tensors, columns: slice) -> torch.Tensor:
    """Codes of some columns, uint8 [K, columns], rows in stored order."""
    part = Exl2Tensors(
        tensors.q_weight[:, columns].contiguous(),
        tensors.q_invperm,
        tensors.q_scale,
        tensors.q_scale_max,
        tensors.q_groups,
        None,
        tensors.out_features,
    )
    return unpack_codes(part)


def _pack_group(codes: torch.Tensor, width: int) -> torch.Tensor:
    """Planes, int32 [blocks, planes, 128], of one group's codes, uint8 [rows, 128 blocks]."""
    # rows 32 tile + 16 k + 8 s + 2 t + h, columns 128 block + 16 m + 8 d + g
    blocks = codes.shape[1] // TILE_COLUMNS
    split = codes.to(torch.int32).reshape(-1, 2, 2, 4, 2, blocks, 8, 2, 8)
    owned = split.permute(5, 0, 8, 3, 6, 1, 2, 7, 4).reshape(blocks, -1, _LANES, _PAIRS, 2)
    parts = PARTS[width]
    planes = [_pack_part(owned & ((1 << parts.low) - 1), parts.low, parts.low_shifts())]
    if parts.high:
        planes.append(_pack_part(owned >> parts.low, parts.high, parts.high_shifts()))
    return torch.cat(planes, dim=2).reshape(blocks, -1, PLANE_WORDS)


def _unpack_group(planes: torch.Tensor, width: int) -> torch.Tensor:
    """Codes, uint8 [rows, 128 blocks], of one group's planes. Inverse of `_pack_group`."""
    blocks = planes.shape[0]
    tiles = planes.reshape(blocks, -1, width, _LANES, 4)
    parts = PARTS[width]
    owned = _unpack_part(tiles[:, :, : parts.low], parts.low, parts.low_shifts())
    if parts.high:
        owned |= _unpack_part(tiles[:, :, parts.low :], parts.high, parts.high_shifts()) << parts.low
    split = owned.reshape(blocks, -1, 8, 4, 8, 2, 2, 2, 2).permute(1, 5, 6, 3, 8, 0, 4, 7, 2)
    return split.reshape(-1, blocks * TILE_COLUMNS).to(torch.uint8)


def _pack_part(values: torch.Tensor, bits: int, shifts: list[int]) -> torch.Tensor:
    """Planes, int32 [blocks, tiles, bits, 32, 4], of values, int32 [blocks, tiles, 32, 64 pairs, 2]."""
    placed = values << _pair_shifts(shifts, values.device)
    words = placed.reshape(*values.shape[:3], 4 * bits, -1).sum(dim=-1, dtype=torch.int32)
    return words.reshape(*values.shape[:3], bits, 4).transpose(2, 3)


def _unpack_part(planes: torch.Tensor, bits: int, shifts: list[int]) -> torch.Tensor:
    """Values, int32 [blocks, tiles, 32, 64 pairs, 2], of planes. Inverse of `_pack_part`."""
    blocks, tiles = planes.shape[:2]
    words = planes.transpose(2, 3).reshape(blocks, tiles, _LANES, 4 * bits)
    of_pairs = words.repeat_interleave(16 // bits, dim=-1).unsqueeze(-1)
    return (of_pairs >> _pair_shifts(shifts, planes.device)) & ((1 << bits) - 1)


def _pair_shifts(shifts: list[int], device: torch.device) -> torch.Tensor:
    """int32 [64, 2]: a pair's second row stands 16 bits above its first."""
    first = torch.tensor(shifts, dtype=torch.int32, device=device)
    return torch.stack([first, first + 16], dim=-1)
