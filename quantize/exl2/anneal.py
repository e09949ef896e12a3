"""Sharing out the bits as ExLlamaV2's converter does: simulated annealing over blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantize.exl2.allocate import Choices, require_reachable
from quantize.exl2.candidates import Option

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

RUNS = 80
HOTTEST, COLDEST, COOLING = 2.0, 1e-4, 0.995


@dataclass(frozen=True, slots=True)
class Annealing:
    """Implements `Allocator`: least Σ error^ν within the budget, ν being chosen for the least largest error.

    Args:
        proposals: changes proposed at each temperature. The original proposes 1000; its walk over so few blocks has
            forgotten its start long before that, and a tenth gives the same solutions.
    """

    proposals: int = 100

    def __call__(self, choices: Sequence[Choices], bits_per_weight: float, seed: int) -> list[Option]:
        """See `Allocator`. Unlike the original this never exceeds the budget."""
        weights = sum(each.weights for each in choices)
        problem = _Problem(choices, int(bits_per_weight * weights))
        least = sum(each.options[0].bits for each in choices)
        if least > problem.budget:
            require_reachable(bits_per_weight, least / weights)
        draws = np.random.default_rng(seed)
        exponent = 2.5
        for reach in (1.0, 0.075):
            exponents = np.linspace(exponent - reach, exponent + reach, RUNS)
            picked = problem.anneal(exponents, self.proposals, draws)
            exponent = float(exponents[problem.largest_errors(picked).argmin()])
        picked = problem.anneal(np.full(RUNS, exponent), self.proposals, draws)
        best = picked[problem.objectives(picked, exponent).argmin()].tolist()
        _spend_rest(choices, best, problem.budget)
        return [each.options[index] for each, index in zip(choices, best, strict=True)]


class _Problem:
    """Costs and errors of S slots with at most O options each, for R runs side by side."""

    def __init__(self, choices: Sequence[Choices], budget: int) -> None:
        self.budget = budget
        self._counts = np.array([len(each.options) for each in choices])
        shape = (len(choices), int(self._counts.max()))
        self._costs = np.zeros(shape, dtype=np.int64)
        self._errors: Floats = np.zeros(shape)
        for slot, each in enumerate(choices):
            for position, option in enumerate(each.options):
                self._costs[slot, position] = option.bits
                self._errors[slot, position] = option.error

    def largest_errors(self, picked: Integers) -> Floats:
        """[R] the worst slot's error in each of the solutions `picked` [R, S]."""
        return np.asarray(np.take_along_axis(self._errors, picked.T, 1).max(0))

    def objectives(self, picked: Integers, exponent: float) -> Floats:
        """[R] Σ error^ν of each of the solutions `picked` [R, S]."""
        return np.asarray(np.power(np.take_along_axis(self._errors, picked.T, 1), exponent).sum(0))

    def anneal(self, exponents: Floats, proposals: int, draws: np.random.Generator) -> Integers:
        """Solutions [R, S], one for each of the exponents [R]. Every run begins with the smallest options."""
        runs, slots = len(exponents), len(self._counts)
        penalties = np.power(self._errors[:, :, None], exponents)
        picked = np.zeros((runs, slots), dtype=np.int64)
        left = np.full(runs, self.budget - int(self._costs[:, 0].sum()))
        every = np.arange(runs)
        temperature = HOTTEST
        while temperature > COLDEST:
            slot = draws.integers(slots, size=(proposals, runs))
            option = (draws.random((proposals, runs)) * self._counts[slot]).astype(np.int64)
            # exp(-rise / T) > u is the same as rise < -T log u
            patience = -temperature * np.log1p(-draws.random((proposals, runs)))
            cost, penalty = self._costs[slot, option], penalties[slot, option, every]
            for step in range(proposals):
                at = slot[step]
                before = picked[every, at]
                dearer = cost[step] - self._costs[at, before]
                rise = penalty[step] - penalties[at, before, every]
                taken = (dearer <= left) & (rise < patience[step])
                picked[every, at] = np.where(taken, option[step], before)
                left -= np.where(taken, dearer, 0)
            temperature *= COOLING
        return picked


def _spend_rest(choices: Sequence[Choices], picked: list[int], budget: int) -> None:
    """Move slot after slot to its next option, again and again, while the budget allows."""
    left = budget - sum(each.options[index].bits for each, index in zip(choices, picked, strict=True))
    moved = True
    while moved:
        moved = False
        for slot, each in enumerate(choices):
            if picked[slot] + 1 == len(each.options):
                continue
            price = each.options[picked[slot] + 1].bits - each.options[picked[slot]].bits
            if price <= left:
                picked[slot] += 1
                left -= price
                moved = True
