"""The yardstick's mixes of widths, held to the sizes stated for the shapes of a large model."""

from __future__ import annotations

import pytest

from engine.ops.exl2 import layout_bits
from quantize.exl2.candidate_sets import ATTENTION_SETS, MLP_SETS, Mix
from quantize.exl2.layout import group_layout

ATTENTION_BPW = (
    *(2.13, 2.21, 2.43, 2.67, 3.16, 3.17, 4.04, 4.05, 4.09, 4.13),
    *(4.17, 4.19, 4.40, 4.46, 5.38, 5.46, 6.04, 6.63, 8.04),
)
MLP_BPW = (2.25, 2.33, 2.60, 2.91, 3.29, 3.37, 3.62, 4.14, 4.20, 4.27, 4.35, 5.25, 5.33, 6.07, 6.30, 6.87, 8.04)


def _bits_per_weight(mixes: tuple[Mix, ...], shapes: list[tuple[int, int]]) -> float:
    bits = sum(
        layout_bits(group_layout(rows, mix), columns) for mix, (rows, columns) in zip(mixes, shapes, strict=True)
    )
    return bits / sum(rows * columns for rows, columns in shapes)


@pytest.mark.parametrize(("mixes", "expected"), list(zip(ATTENTION_SETS, ATTENTION_BPW, strict=True)))
def test_attention_sets_have_the_stated_sizes(mixes: tuple[Mix, ...], expected: float) -> None:
    assert _bits_per_weight(mixes, [(4096, 4096)] * 4) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("mixes", "expected"), list(zip(MLP_SETS, MLP_BPW, strict=True)))
def test_mlp_sets_have_the_stated_sizes(mixes: tuple[Mix, ...], expected: float) -> None:
    assert _bits_per_weight(mixes, [(4096, 11008)] * 2 + [(11008, 4096)]) == pytest.approx(expected, abs=0.006)
