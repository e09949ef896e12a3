"""EXL2 in numbers: the tensors of one matrix, packing and unpacking of codes, and the exact decode.

Everything follows the on-disk format (docs/formats.md). Decoding is bit-exact: every rounding to half precision
that the format defines happens, and no other.

Letters: K inputs, N stored outputs, G groups, R word rows. The K rows of a matrix are kept in *stored order*, the
most important input first; `q_invperm` leads from *feature order*, which the model speaks, to stored order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.errors import CheckpointError, QuantizationError

WIDTHS = (2, 3, 4, 5, 6, 8)
"""Bits a code may have."""

ROW_MULTIPLE = 32
"""Rows of every group, and columns of every matrix, come in multiples of this."""

WORD_BITS = 32
CODES_PER_SCALE_WORD = 8
SCALE_CODE_BITS = 4
MAX_UNSIGNED_16 = 0xFFFF


@dataclass(frozen=True, slots=True)
class Exl2Tensors:
    """One EXL2 matrix as it is on disk, with K inputs and N stored outputs in G groups.

    Attributes:
        q_weight: int32 [R, N] packed codes, a little-endian bit stream down each column.
        q_invperm: int32 [K] stored row of each input feature.
        q_scale: int32 [G, N / 8] eight 4-bit scale codes per word.
        q_scale_max: float16 [G] largest scale of each group.
        q_groups: int16 [2 G] width and first word row of each group, unsigned.
        bias: float16, bfloat16 or float32 [N], or None.
        out_features: true number of outputs; columns beyond it are padding.
        prescale: factor the model definition puts on the matrix; never stored.
    """

    q_weight: torch.Tensor
    q_invperm: torch.Tensor
    q_scale: torch.Tensor
    q_scale_max: torch.Tensor
    q_groups: torch.Tensor
    bias: torch.Tensor | None
    out_features: int
    prescale: float = 1.0

    @property
    def in_features(self) -> int:
        """K."""
        return self.q_invperm.shape[0]

    @property
    def stored_outputs(self) -> int:
        """N, padding included."""
        return self.q_weight.shape[1]

    @property
    def groups(self) -> tuple[RowGroup, ...]:
        """The group table, read and checked (see `row_groups`)."""
        return row_groups(self.q_groups, self.q_weight.shape[0])


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A run of stored rows that share one bit width and one row of scales.

    Attributes:
        width: bits per code.
        first_word: first word row of the group in `q_weight`.
        first_row: first stored row.
        rows: number of stored rows.
    """

    width: int
    first_word: int
    first_row: int
    rows: int

    @property
    def words(self) -> int:
        """Word rows the group takes in `q_weight`."""
        return self.rows * self.width // WORD_BITS

    @property
    def zero_point(self) -> int:
        """The code that stands for zero."""
        return 1 << (self.width - 1)

    @property
    def row_slice(self) -> slice:
        """The group's rows among the stored rows."""
        return slice(self.first_row, self.first_row + self.rows)

    @property
    def word_slice(self) -> slice:
        """The group's rows in `q_weight`."""
        return slice(self.first_word, self.first_word + self.words)


def permutation_fault(order: torch.Tensor) -> str | None:
    """Why an integer vector [K] does not hold each of 0 … K - 1 once, or None where it does."""
    rows = order.shape[0]
    low, high = int(order.min()), int(order.max())
    if low < 0 or high >= rows:
        return f"it holds {low if low < 0 else high}; stored rows are 0 to {rows - 1}"
    uses = torch.bincount(order, minlength=rows)
    if int(uses.max()) > 1:
        return f"it is no permutation: stored row {int(uses.argmax())} appears more than once"
    return None


def row_groups(q_groups: torch.Tensor, word_rows: int) -> tuple[RowGroup, ...]:
    """Read the group table and hold it to the format's rules.

    The original reader walks the widths in falling order and steps 32 rows at a time without looking, so a table that
    breaks these rules would decode to garbage there.

    Args:
        q_groups: int16 [2 G], read as unsigned: width and first word row of each group.
        word_rows: R, the rows of `q_weight`.

    Raises:
        CheckpointError: the table is malformed; the message starts with `q_groups`, without the layer's name.
    """
    table = [value & MAX_UNSIGNED_16 for value in q_groups.tolist()]
    if not table or len(table) % 2:
        raise CheckpointError(f"q_groups: {len(table)} entries; it must hold a pair for each of one or more groups")
    widths, starts = table[0::2], table[1::2]
    if starts[0] != 0:
        raise CheckpointError(f"q_groups: the first group starts at word row {starts[0]}, not at 0")
    groups: list[RowGroup] = []
    first_row = 0
    for index, (width, start, end) in enumerate(zip(widths, starts, [*starts[1:], word_rows], strict=True)):
        if width not in WIDTHS:
            raise CheckpointError(f"q_groups: group {index} has {width} bits; allowed are {_listed(WIDTHS)}")
        if index and width > widths[index - 1]:
            raise CheckpointError(
                f"q_groups: group {index} has {width} bits after one of {widths[index - 1]}; widths must not increase"
            )
        if not start < end <= word_rows:
            raise CheckpointError(
                f"q_groups: group {index} starts at word row {start} and ends at {end}; "
                f"starts must increase and stay below the {word_rows} rows of q_weight"
            )
        rows, remainder = divmod((end - start) * WORD_BITS, width)
        # The original kernels read a trailing 2-bit group of 16 rows too, but K is always a multiple of 32, so no
        # file can hold one.
        if remainder or rows % ROW_MULTIPLE:
            raise CheckpointError(
                f"q_groups: group {index} has {end - start} word rows of {width}-bit codes, which is no multiple of "
                f"{ROW_MULTIPLE} rows"
            )
        groups.append(RowGroup(width, start, first_row, rows))
        first_row += rows
    return tuple(groups)


def layout_groups(layout: Sequence[tuple[int, int]]) -> tuple[RowGroup, ...]:
    """The groups of a matrix laid out as (width, rows) pairs in stored order.

    Raises:
        CheckpointError: the format does not allow this layout.
    """
    return row_groups(build_q_groups(layout), _word_rows(layout))


def build_q_groups(layout: Sequence[tuple[int, int]]) -> torch.Tensor:
    """The group table, int16 [2 G], of a matrix laid out as (width, rows) pairs in stored order.

    Raises:
        CheckpointError: the format does not allow this layout.
    """
    table: list[int] = []
    first_word = 0
    for index, (width, rows) in enumerate(layout):
        if rows <= 0 or rows % ROW_MULTIPLE:
            raise CheckpointError(f"q_groups: group {index} has {rows} rows, which is no multiple of {ROW_MULTIPLE}")
        if first_word > MAX_UNSIGNED_16:
            raise CheckpointError(f"q_groups: group {index} starts at word row {first_word}, beyond {MAX_UNSIGNED_16}")
        table += (width, first_word)
        first_word += rows * width // WORD_BITS
    q_groups = torch.tensor(table, dtype=torch.int32).to(torch.int16)  # keeps the low 16 bits: unsigned in int16
    row_groups(q_groups, _word_rows(layout))
    return q_groups


def unpack_codes(tensors: Exl2Tensors) -> torch.Tensor:
    """Codes of every weight, uint8 [K, N], rows in stored order."""
    return torch.cat([_unpack_stream(tensors.q_weight[group.word_slice], group.width) for group in tensors.groups])


def pack_codes(codes: torch.Tensor, groups: Sequence[RowGroup]) -> torch.Tensor:
    """Pack codes, uint8 [K, N] in stored order, to `q_weight`, int32 [R, N]. Inverse of `unpack_codes`.

    Raises:
        QuantizationError: the codes do not have as many rows as the groups, or one does not fit its group's width.
    """
    rows = sum(group.rows for group in groups)
    if codes.dtype != torch.uint8 or codes.dim() != 2 or codes.shape[0] != rows:
        raise QuantizationError(f"codes: {codes.dtype} {list(codes.shape)}; these groups need torch.uint8 [{rows}, N]")
    packed = []
    for group in groups:
        part = codes[group.row_slice]
        if part.numel() and int(part.max()) >> group.width:
            raise QuantizationError(
                f"codes: {int(part.max())} among rows {group.first_row} to {group.first_row + group.rows - 1} "
                f"does not fit in {group.width} bits"
            )
        packed.append(_pack_stream(part, group.width))
    return torch.cat(packed)


def unpack_scale_codes(q_scale: torch.Tensor) -> torch.Tensor:
    """Scale codes 0…15, uint8 [G, N], from `q_scale`, int32 [G, N / 8]: column 8w + j in bits 4j…4j+3 of word w."""
    shifts = torch.arange(0, WORD_BITS, SCALE_CODE_BITS, dtype=torch.int32, device=q_scale.device)
    return ((q_scale.unsqueeze(-1) >> shifts) & 15).to(torch.uint8).flatten(-2)


def pack_scale_codes(scale_codes: torch.Tensor) -> torch.Tensor:
    """Pack scale codes 0…15, uint8 [G, N], to `q_scale`, int32 [G, N / 8]. Inverse of `unpack_scale_codes`.

    Raises:
        QuantizationError: N is no multiple of 8, or a code exceeds 15.
    """
    if scale_codes.dtype != torch.uint8 or scale_codes.dim() != 2 or scale_codes.shape[1] % CODES_PER_SCALE_WORD:
        raise QuantizationError(
            f"scale codes: {scale_codes.dtype} {list(scale_codes.shape)}; needed is torch.uint8 [G, N], N a multiple "
            f"of {CODES_PER_SCALE_WORD}"
        )
    if scale_codes.numel() and int(scale_codes.max()) > 15:
        raise QuantizationError(f"scale codes: {int(scale_codes.max())} does not fit in {SCALE_CODE_BITS} bits")
    nibbles = scale_codes.to(torch.int32).reshape(scale_codes.shape[0], -1, CODES_PER_SCALE_WORD)
    shifts = torch.arange(0, WORD_BITS, SCALE_CODE_BITS, dtype=torch.int32, device=scale_codes.device)
    # the nibbles do not overlap, so their sum (modulo 2^32) is their union
    return (nibbles << shifts).sum(dim=-1, dtype=torch.int32)


def group_scales(tensors: Exl2Tensors) -> torch.Tensor:
    """The scale of every (group, column), float16 [G, N], with both roundings of the format."""
    return scales_from_codes(unpack_scale_codes(tensors.q_scale), tensors.q_scale_max, tensors.prescale)


def scales_from_codes(scale_codes: torch.Tensor, scale_max: torch.Tensor, prescale: float = 1.0) -> torch.Tensor:
    """The scales a reader will use, float16 [G, N].

    `m = half(scale_max · prescale / 256)`, then `t = half((code + 1)² · m)`. Products are formed in float32, where
    those of two halves are exact and the subnormal halves are normal numbers, so nothing is flushed to zero.

    Args:
        scale_codes: uint8 [G, N], 0…15.
        scale_max: float16 [G].
        prescale: factor the model definition puts on the matrix.
    """
    unit = (scale_max.float() * (prescale / 256)).half()
    steps = (scale_codes.float() + 1).square_()
    return steps.mul_(unit.float().unsqueeze(-1)).half()


def decode(tensors: Exl2Tensors) -> torch.Tensor:
    """The weights as the format defines them: float16 [K, N], feature order, padded columns and prescale included.

    A weight is `half((code - 2^(width-1)) · t)`. Works group by group, so it needs little memory beyond the result.
    """
    scales = group_scales(tensors)
    feature_of_row = torch.argsort(tensors.q_invperm)
    weight = torch.empty(
        tensors.in_features, tensors.stored_outputs, dtype=torch.float16, device=tensors.q_weight.device
    )
    for index, group in enumerate(tensors.groups):
        levels = _unpack_stream(tensors.q_weight[group.word_slice], group.width).float().sub_(group.zero_point)
        weight[feature_of_row[group.row_slice]] = levels.mul_(scales[index].float()).half()
    return weight


def stored_bits(tensors: Exl2Tensors) -> int:
    """Size of the matrix in bits, bias excluded: the figure budgets and bits per weight are counted in."""
    return layout_bits([(group.width, group.rows) for group in tensors.groups], tensors.stored_outputs)


def layout_bits(layout: Sequence[tuple[int, int]], columns: int) -> int:
    """Size in bits of a matrix laid out as (width, rows) pairs, with so many stored columns.

    Per group: the codes, a half for the largest scale, 32 bits of table and four bits of scale per column; per input
    32 bits of permutation.
    """
    rows = sum(rows for _, rows in layout)
    codes = sum(width * rows for width, rows in layout) * columns
    return codes + len(layout) * (16 + 32 + SCALE_CODE_BITS * columns) + 32 * rows


def _listed(values: Sequence[int]) -> str:
    return ", ".join(str(value) for value in values)


def _word_rows(layout: Sequence[tuple[int, int]]) -> int:
    return sum(width * rows for width, rows in layout) // WORD_BITS


def _period(width: int) -> tuple[int, int]:
    """Codes and words after which the bit stream of this width meets a word boundary again."""
    shared = math.gcd(width, WORD_BITS)
    return WORD_BITS // shared, width // shared


def _unpack_stream(words: torch.Tensor, width: int) -> torch.Tensor:
    """Codes, uint8 [rows, N], of one group's words, int32 [words, N].

    One pass of the loop takes the same code out of every period of the stream. The words are signed, so what a shift
    brings in from the left is masked away.
    """
    codes_per_period, words_per_period = _period(width)
    periods = words.reshape(-1, words_per_period, words.shape[1])
    codes = torch.empty(periods.shape[0], codes_per_period, words.shape[1], dtype=torch.uint8, device=words.device)
    for index in range(codes_per_period):
        word, shift = divmod(index * width, WORD_BITS)
        value = periods[:, word] >> shift
        bits_here = WORD_BITS - shift
        if bits_here < width:
            value = (value & ((1 << bits_here) - 1)) | (periods[:, word + 1] << bits_here)
        codes[:, index] = value & ((1 << width) - 1)
    return codes.flatten(0, 1)


def _pack_stream(codes: torch.Tensor, width: int) -> torch.Tensor:
    """Words, int32 [words, N], of one group's codes, uint8 [rows, N]. Inverse of `_unpack_stream`."""
    codes_per_period, words_per_period = _period(width)
    periods = codes.reshape(-1, codes_per_period, codes.shape[1])
    words = torch.zeros(periods.shape[0], words_per_period, codes.shape[1], dtype=torch.int32, device=codes.device)
    for index in range(codes_per_period):
        word, shift = divmod(index * width, WORD_BITS)
        value = periods[:, index].to(torch.int32)
        words[:, word] |= value << shift
        bits_here = WORD_BITS - shift
        if bits_here < width:
            words[:, word + 1] |= value >> bits_here
    return words.flatten(0, 1)
