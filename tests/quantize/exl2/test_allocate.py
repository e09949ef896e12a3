"""Laws of the choice of widths and of the bit allocation."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import QuantizationError
from engine.ops.exl2 import WIDTHS, layout_bits
from quantize.exl2.allocate import Choices, allocate
from quantize.exl2.candidates import Option, group_rows, lower_hull, matrix_options
from quantize.exl2.layout import Group

points = st.lists(st.tuples(st.integers(1, 500), st.floats(0.01, 100.0)), min_size=1, max_size=8)


@st.composite
def problems(draw: st.DrawFn) -> list[Choices]:
    matrices = []
    for index in range(draw(st.integers(1, 5))):
        options = lower_hull([Option(((Group(2, 32),),), bits, error) for bits, error in draw(points)])
        matrices.append(Choices((f"m{index}",), 100, options))
    return matrices


def _damage(chosen: list[Option]) -> float:
    return sum(option.error for option in chosen)


def _least_bits(matrices: list[Choices]) -> float:
    return sum(matrix.options[0].bits for matrix in matrices) / sum(matrix.weights for matrix in matrices)


@given(problems(), st.floats(0, 5), st.floats(0, 5))
@settings(max_examples=200)
def test_budget_is_kept_and_more_is_never_worse(matrices: list[Choices], first: float, second: float) -> None:
    least = _least_bits(matrices) + 1e-9
    damages = []
    for extra in sorted((first, second)):
        chosen = allocate(matrices, least + extra)
        assert sum(option.bits for option in chosen) <= (least + extra) * sum(matrix.weights for matrix in matrices)
        damages.append(_damage(chosen))
    assert damages[1] <= damages[0] * (1 + 1e-9)


@given(problems(), st.floats(0, 5))
@settings(max_examples=100)
def test_no_other_choice_of_the_same_size_is_better(matrices: list[Choices], extra: float) -> None:
    chosen = allocate(matrices, _least_bits(matrices) + 1e-9 + extra)
    # the last, gap-filling step is no part of the exact optimum, so what it bought is left out of the comparison
    steps = [list(matrix.options) for matrix in matrices]
    spent = sum(option.bits for option in chosen)
    for combination in itertools.product(*steps):
        if sum(option.bits for option in combination) <= spent:
            largest_step = max(
                (a.error - b.error for matrix in matrices for a, b in itertools.pairwise(matrix.options)),
                default=0.0,
            )
            assert _damage(list(combination)) >= _damage(chosen) - largest_step - 1e-9


def test_an_impossible_budget_says_what_is_possible() -> None:
    matrix = Choices(("m",), 100, [Option(((Group(2, 32),),), 245, 1.0)])
    with pytest.raises(QuantizationError, match=r"at least 2\.450"):
        allocate([matrix], 2.0)


@given(st.integers(1, 6), st.sampled_from([32, 64, 128]), st.data())
@settings(max_examples=50)
def test_options_are_storable_and_hold_the_extremes(groups: int, group_size: int, data: st.DataObject) -> None:
    in_features = groups * 96
    count = len(group_rows(in_features, group_size))
    base = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=count, max_size=count))
    errors = {group_size: {bits: [each * 4.0**-bits for each in base] for bits in WIDTHS}}
    options = matrix_options(in_features, 64, errors)
    for option in options:
        widths = [group.bits for group in option.layouts[0]]
        assert widths == sorted(widths, reverse=True)
        assert sum(group.rows for group in option.layouts[0]) == in_features
        assert option.bits == layout_bits(option.layouts[0], 64)
    assert {group.bits for group in options[0].layouts[0]} == {2}
    assert {group.bits for group in options[-1].layouts[0]} == {8}
    for first, second in itertools.pairwise(options):
        assert second.bits > first.bits
        assert second.error < first.error


def test_what_a_large_step_leaves_over_is_spent_on_several_small_ones() -> None:
    groups = ((Group(2, 32),),)
    large = Choices(("large",), 100, [Option(groups, 200, 100.0), Option(groups, 400, 1.0)])
    small = [Choices((name,), 100, [Option(groups, 200, 2.0), Option(groups, 250, 1.0)]) for name in "abc"]
    chosen = allocate([large, *small], (800 + 160) / 400)
    assert [option.bits for option in chosen] == [200, 250, 250, 250]
