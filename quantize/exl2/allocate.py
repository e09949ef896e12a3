"""Sharing out the bits: one option for every matrix, within a budget, for the least total damage."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.errors import QuantizationError
from engine.model.formats.base import LinearShape
from engine.ops.exl2 import ROW_MULTIPLE, layout_bits
from quantize.exl2.candidates import Option, largest_groups, smallest_groups
from quantize.exl2.layout import Group

UNIT_SHIFT = 20
"""Bits left over are shared out in units of the number of weights divided by two to this power."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What can be chosen for one matrix, or for a few that are chosen together.

    Attributes:
        names: checkpoint prefixes of the matrices.
        weights: number of their weights.
        options: in an order the allocator expects.
    """

    names: tuple[str, ...]
    weights: int
    options: Sequence[Option]


Plan = dict[str, tuple[Group, ...]]
"""Groups of every matrix, by its checkpoint prefix."""


def extremes(name: str, shape: LinearShape) -> Choices:
    """The smallest and the largest form of a matrix, called `name`, before anything is known of its errors."""
    rows, columns = shape.in_features, shape.out_features + -shape.out_features % ROW_MULTIPLE
    sizes = (layout_bits(groups(rows), columns) for groups in (smallest_groups, largest_groups))
    return Choices((name,), rows * columns, [Option((), bits, math.nan) for bits in sizes])


class Allocator(Protocol):
    """Picks one option of each of `choices` within a budget."""

    def __call__(self, choices: Sequence[Choices], bits_per_weight: float, seed: int) -> list[Option]:
        """The options picked, in the order of `choices`; `seed` is of whatever is drawn at random.

        Raises:
            QuantizationError: even the smallest options exceed the budget; the message gives the least possible figure.
        """
        ...


def plan_of(choices: Sequence[Choices], picked: Sequence[Option]) -> Plan:
    """The groups that the options `picked` give every matrix."""
    return {
        name: groups
        for each, option in zip(choices, picked, strict=True)
        for name, groups in zip(each.names, option.layouts, strict=True)
    }


class HullAllocator:
    """Implements `Allocator` by the exact optimum on convex hulls; see `allocate`."""

    def __call__(self, choices: Sequence[Choices], bits_per_weight: float, seed: int) -> list[Option]:  # noqa: ARG002
        """See `Allocator`; nothing is drawn at random."""
        return allocate(choices, bits_per_weight)


def allocate(matrices: Sequence[Choices], bits_per_weight: float) -> list[Option]:
    """Pick an option for every matrix so that the sum of errors is least within the budget.

    Options must come by rising bits and lie on their lower convex hull (`candidates.lower_hull`).

    Starts with the smallest options and buys, again and again, the step that saves most per bit. On convex hulls that
    is the exact optimum for the bits it uses; what one step leaves over goes to the best options that still fit.
    The total never exceeds `bits_per_weight` times the number of weights, and a larger budget never makes it worse.

    Raises:
        QuantizationError: even the smallest options exceed the budget; the message gives the least possible figure.
    """
    weights = sum(matrix.weights for matrix in matrices)
    budget = int(bits_per_weight * weights)
    chosen = [0] * len(matrices)
    spent = sum(matrix.options[0].bits for matrix in matrices)
    if spent > budget:
        require_reachable(bits_per_weight, spent / weights)
    steps = [_next_step(matrices, index, 0) for index in range(len(matrices)) if len(matrices[index].options) > 1]
    heapq.heapify(steps)
    while steps:
        _, index = heapq.heappop(steps)
        options = matrices[index].options
        price = options[chosen[index] + 1].bits - options[chosen[index]].bits
        if spent + price > budget:
            break
        spent += price
        chosen[index] += 1
        if chosen[index] + 1 < len(options):
            heapq.heappush(steps, _next_step(matrices, index, chosen[index]))
    _spend_rest(matrices, chosen, budget - spent, max(1, weights >> UNIT_SHIFT))
    return [matrix.options[index] for matrix, index in zip(matrices, chosen, strict=True)]


def require_reachable(bits_per_weight: float, least: float) -> None:
    """Refuse a budget below the `least` bits per weight that a model takes.

    Raises:
        QuantizationError: always where the budget is smaller; the message gives the least possible figure.
    """
    if bits_per_weight < least:
        raise QuantizationError(
            f"{bits_per_weight:g} bits per weight cannot be reached: this model takes at least {least:.3f}, scales and "
            f"permutations included. Ask for {math.ceil(least * 100) / 100:.2f} or more."
        )


def _next_step(matrices: Sequence[Choices], index: int, position: int) -> tuple[float, int]:
    """(-damage saved per bit, matrix) of the step after `position`."""
    matrix = matrices[index]
    here, there = matrix.options[position], matrix.options[position + 1]
    return -(here.error - there.error) / (there.bits - here.bits), index


def _spend_rest(matrices: Sequence[Choices], chosen: list[int], rest: int, unit: int) -> None:
    """Move matrices to larger options so that most is saved with no more than `rest` bits.

    Exact but for prices being rounded up to whole units: a knapsack with at most one option of each matrix.
    """
    capacity = rest // unit
    saved = np.zeros(capacity + 1)
    taken: list[NDArray[np.int32]] = []
    for matrix, position in zip(matrices, chosen, strict=True):
        here, before = matrix.options[position], saved
        saved, moves = before.copy(), np.full(capacity + 1, position, dtype=np.int32)
        for index in range(position + 1, len(matrix.options)):
            there = matrix.options[index]
            price = _units(there.bits - here.bits, unit)
            if price > capacity:
                break
            found = before[: capacity + 1 - price] + (here.error - there.error)
            better = found > saved[price:]
            saved[price:][better] = found[better]
            moves[price:][better] = index
        taken.append(moves)
    for number in reversed(range(len(matrices))):
        position = int(taken[number][capacity])
        options = matrices[number].options
        capacity -= _units(options[position].bits - options[chosen[number]].bits, unit)
        chosen[number] = position


def _units(bits: int, unit: int) -> int:
    return -(-bits // unit)
