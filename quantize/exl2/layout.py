"""How the rows of a matrix are cut into groups of one width each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from engine.errors import QuantizationError
from engine.ops.exl2 import ROW_MULTIPLE, WIDTHS


@dataclass(frozen=True, slots=True)
class WidthShare:
    """A share of the rows stored with one width.

    Attributes:
        bits: 2, 3, 4, 5, 6 or 8.
        share: fraction of all rows.
        group_size: rows per group, a multiple of 32.
    """

    bits: int
    share: float
    group_size: int


class Group(NamedTuple):
    """A run of stored rows that share a width and a scale maximum, as `engine.ops.exl2` takes a layout."""

    bits: int
    rows: int


def group_layout(in_features: int, shares: Sequence[WidthShare]) -> tuple[Group, ...]:
    """Cut `in_features` rows into groups, widest first, each width rounded up to whole groups.

    Only the last group may be shorter than its group size. With few rows the first widths can use up everything.

    Raises:
        QuantizationError: the rows cannot be cut like this, e.g. because they are not a multiple of 32.
    """
    if in_features % ROW_MULTIPLE:
        raise QuantizationError(f"{in_features} input features are not a multiple of {ROW_MULTIPLE}.")
    if any(first.bits <= second.bits for first, second in pairwise(shares)):
        raise QuantizationError(f"Widths must fall: {[each.bits for each in shares]}.")
    groups: list[Group] = []
    left = in_features
    for share in shares:
        if share.bits not in WIDTHS or share.group_size < ROW_MULTIPLE or share.group_size % ROW_MULTIPLE:
            raise QuantizationError(f"EXL2 has no groups of {share.group_size} rows with {share.bits} bits.")
        wanted = min(in_features * share.share, left)
        for _ in range(math.ceil(wanted / share.group_size)):
            rows = min(share.group_size, left)
            if rows <= 0:
                break
            groups.append(Group(share.bits, rows))
            left -= rows
    if left > 0:
        raise QuantizationError(f"The shares {[each.share for each in shares]} do not add up to all rows.")
    return tuple(groups)
