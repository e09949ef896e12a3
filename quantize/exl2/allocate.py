"""Sharing out the bits: one option for every matrix, within a budget, for the least total damage."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.errors import QuantizationError
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group


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
    is the exact optimum for the bits it uses; what one step leaves over goes to the best single step that still fits.
    The total never exceeds `bits_per_weight` times the number of weights, and a larger budget never makes it worse.

    Raises:
        QuantizationError: even the smallest options exceed the budget; the message gives the least possible figure.
    """
    budget = int(bits_per_weight * sum(matrix.weights for matrix in matrices))
    chosen = [0] * len(matrices)
    spent = sum(matrix.options[0].bits for matrix in matrices)
    if spent > budget:
        require_reachable(bits_per_weight, spent / sum(matrix.weights for matrix in matrices))
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
    _spend_rest(matrices, chosen, budget - spent)
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


def _spend_rest(matrices: Sequence[Choices], chosen: list[int], rest: int) -> None:
    """Move one matrix to the larger option that saves most among those that cost no more than `rest`."""
    best, best_index, best_position = 0.0, 0, 0
    for index, matrix in enumerate(matrices):
        here = matrix.options[chosen[index]]
        for position in range(chosen[index] + 1, len(matrix.options)):
            there = matrix.options[position]
            saved = here.error - there.error
            if there.bits - here.bits <= rest and saved > best:
                best, best_index, best_position = saved, index, position
    if best > 0:
        chosen[best_index] = best_position
