"""Which widths a matrix could have, and what each choice would cost and spoil.

For a given price of a bit, the best widths of a matrix's groups follow by dynamic programming (widths may only fall
from group to group). Sweeping the price gives every choice worth considering: the lower convex hull of error over
size, for all group sizes together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from engine.ops.exl2 import ROW_MULTIPLE, WIDTHS, layout_bits
from quantize.exl2.layout import Group

FALLING_WIDTHS = tuple(sorted(WIDTHS, reverse=True))

GROUP_SIZES = (32, 64, 128)
_PRICES = 160  # the hull has far fewer corners than this for any matrix that was tried
_PRICE_RANGE = 1e12


@dataclass(frozen=True, slots=True)
class Option:
    """One choice for one matrix, or for a few that are chosen together.

    Attributes:
        layouts: widths and rows of the groups of each matrix, in stored order.
        bits: everything stored for them.
        error: what it spoils, in a unit of the measurement's own.
    """

    layouts: tuple[tuple[Group, ...], ...]
    bits: int
    error: float


def group_rows(in_features: int, group_size: int) -> tuple[int, ...]:
    """Rows of each group when `in_features` are cut into groups of `group_size`, the last one perhaps shorter."""
    whole, rest = divmod(in_features, group_size)
    return (group_size,) * whole + ((rest,) if rest else ())


@cache
def shared_group(bits: int, rows: int) -> Group:
    """The one object for all groups that are alike: a model has millions of them in all its options together."""
    return Group(bits, rows)


def smallest_groups(in_features: int) -> tuple[Group, ...]:
    """The groups that take least room: narrowest codes in the largest groups."""
    return tuple(Group(min(WIDTHS), rows) for rows in group_rows(in_features, max(GROUP_SIZES)))


def largest_groups(in_features: int) -> tuple[Group, ...]:
    """The groups that take most room: widest codes in the smallest groups."""
    return tuple(Group(max(WIDTHS), rows) for rows in group_rows(in_features, min(GROUP_SIZES)))


def matrix_options(
    in_features: int, out_features: int, errors: Mapping[int, Mapping[int, Sequence[float]]]
) -> list[Option]:
    """Choices for a matrix by rising size and falling error, on their lower convex hull.

    Args:
        in_features: K, a multiple of 32.
        out_features: stored outputs.
        errors: `errors[group_size][bits][g]`, the error of group g when it has that width: its share in tr(ΔᵀHΔ),
            Δ being the change of the weights and H the inputs' second moments.
    """
    found: dict[tuple[Group, ...], Option] = {}
    for group_size, by_width in errors.items():
        rows = group_rows(in_features, group_size)
        largest = max(max(each) for each in by_width.values())
        highest = largest / (ROW_MULTIPLE * out_features)
        prices = np.array([highest * _PRICE_RANGE ** (-step / _PRICES) for step in range(_PRICES + 1)])
        for widths in dict.fromkeys(_best_widths(rows, by_width, prices * out_features)):
            groups = tuple(shared_group(bits, size) for bits, size in zip(widths, rows, strict=True))
            if groups not in found:
                error = sum(by_width[bits][index] for index, bits in enumerate(widths))
                found[groups] = Option((groups,), layout_bits(groups, out_features), error)
        for bits in (min(WIDTHS), max(WIDTHS)):
            groups = tuple(shared_group(bits, size) for size in rows)
            found[groups] = Option((groups,), layout_bits(groups, out_features), sum(by_width[bits]))
    return lower_hull(list(found.values()))


def _best_widths(
    rows: Sequence[int], errors: Mapping[int, Sequence[float]], prices: NDArray[np.float64]
) -> list[tuple[int, ...]]:
    """For each price [P], falling widths that minimise error + price · Σ rows · width.

    By dynamic programming over the groups, for all prices at once.
    """
    costs = np.zeros((len(FALLING_WIDTHS), len(prices)))  # best totals so far if the latest group has this width
    choices: list[NDArray[np.int64]] = []
    for index, size in enumerate(rows):
        best, best_from = costs[0].copy(), np.zeros(len(prices), dtype=np.int64)
        previous = np.empty(costs.shape, dtype=np.int64)
        totals = np.empty_like(costs)
        for position, bits in enumerate(FALLING_WIDTHS):
            best_from[costs[position] < best] = position
            np.minimum(best, costs[position], out=best)
            previous[position] = best_from
            totals[position] = best + errors[bits][index] + prices * size * bits
        costs = totals
        choices.append(previous)
    position = costs.argmin(0)
    widths: list[NDArray[np.int64]] = []
    for previous in reversed(choices):
        widths.append(np.array(FALLING_WIDTHS)[position])
        position = np.take_along_axis(previous, position[None], 0)[0]
    return [tuple(each) for each in np.stack(widths[::-1], axis=1).tolist()]


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull of error over bits, by rising bits and falling error."""
    hull: list[Option] = []
    for option in sorted(options, key=lambda each: (each.bits, each.error)):
        if hull and option.error >= hull[-1].error:
            continue
        while len(hull) >= 2 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], option):
            hull.pop()
        hull.append(option)
    return hull


def _slope(first: Option, second: Option) -> float:
    """Error saved per bit on the way from one option to a larger one."""
    return (first.error - second.error) / (second.bits - first.bits)
