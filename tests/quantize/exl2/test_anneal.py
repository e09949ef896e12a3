"""The yardstick's allocator: within the budget, repeatable, and as good as trying everything on small problems."""

from __future__ import annotations

import itertools

import pytest

from engine.errors import QuantizationError
from quantize.exl2.allocate import Choices
from quantize.exl2.anneal import Annealing
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group

GROUPS = ((Group(2, 32),),)


def _choices() -> list[Choices]:
    errors = ([0.9, 0.5, 0.3, 0.1], [0.5, 0.3, 0.2, 0.05], [0.8, 0.75, 0.7, 0.6], [0.6, 0.4, 0.1, 0.01])
    return [
        Choices((f"block{slot}",), 100, [Option(GROUPS, 200 + 100 * step, each) for step, each in enumerate(row)])
        for slot, row in enumerate(errors)
    ]


def test_the_budget_is_kept_and_used_up() -> None:
    for budget in (2.0, 2.6, 3.3, 4.2, 9.0):
        bits = sum(option.bits for option in Annealing(proposals=2)(_choices(), budget, 0))
        assert bits <= budget * 400
        assert bits == min(2000, int(budget * 4) * 100)


def test_equal_seeds_give_equal_choices() -> None:
    assert Annealing(proposals=2)(_choices(), 3.3, 5) == Annealing(proposals=2)(_choices(), 3.3, 5)


def test_the_choice_is_about_as_good_as_the_best_of_all() -> None:
    choices = _choices()
    damages = [
        sum(each.error**2.5 for each in option)
        for option in itertools.product(*(each.options for each in choices))
        if sum(each.bits for each in option) <= 3.5 * 400
    ]
    picked = Annealing(proposals=20)(choices, 3.5, 0)
    assert sum(each.error**2.5 for each in picked) <= 1.1 * min(damages)


def test_a_budget_below_the_smallest_options_is_refused() -> None:
    with pytest.raises(QuantizationError, match=r"at least 2\.000"):
        Annealing()(_choices(), 1.9, 0)
