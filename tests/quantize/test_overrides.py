"""Widths fixed by hand: their budget, and that of the others."""

from __future__ import annotations

import pytest

from engine.errors import ConfigError, QuantizationError
from quantize.exl2.allocate import Choices, HullAllocator
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group
from quantize.overrides import allocate_with_overrides, bits_with_overrides, parse_override, possible_bits

WEIGHTS = 32 * 32


def _choices(*names: str) -> Choices:
    """Two, four or eight bits per weight."""
    options = [
        Option(tuple((Group(bits, 32),) for _ in names), bits * WEIGHTS * len(names), 1.0 / 4**bits)
        for bits in (2, 4, 8)
    ]
    return Choices(names, WEIGHTS * len(names), options)


MODEL = [_choices(f"model.layers.{layer}.mlp.{name}_proj") for layer in range(3) for name in ("up", "down")]


def _bits(overrides: tuple[str, ...], bpw: float) -> list[int]:
    picked = allocate_with_overrides(MODEL, HullAllocator(), bpw, tuple(map(parse_override, overrides)), 0)
    return [option.layouts[0][0].bits for option in picked]


def test_matrices_named_get_their_bits_and_the_others_the_rest() -> None:
    assert _bits((), 4.0) == [4] * 6
    assert _bits(("layers.0.*=8",), 4.0) == [8, 8, 2, 2, 2, 2]
    assert _bits(("*.down_proj=2",), 3.0) == [4, 2, 4, 2, 4, 2]
    assert _bits(("model.layers.?.mlp.up_proj=8", "layers.2.*=2"), 28 / 6) == [8, 4, 8, 4, 2, 2]


def test_the_budget_holds_for_all_together() -> None:
    with pytest.raises(
        QuantizationError, match=r"what the overrides leave: 1\.000 bits .* possible are 2\.000 to 8\.000"
    ):
        _bits(("layers.0.*=8", "layers.1.*=4"), 13 / 3)
    with pytest.raises(QuantizationError, match="more than bpw allows"):
        _bits(("*=8",), 4.0)
    with pytest.raises(QuantizationError, match=r"override layers\.0\.\*: 1\.500 bits"):
        _bits(("layers.0.*=1.5",), 4.0)
    assert possible_bits(MODEL) == (2.0, 8.0)


def test_what_overrides_need_is_known_from_sizes_alone() -> None:
    def needed(*overrides: str) -> float:
        return bits_with_overrides(MODEL, tuple(map(parse_override, overrides)))

    assert needed() == 2.0
    assert needed("layers.0.*=8") == (2 * 8 + 4 * 2) / 6
    assert needed("*=5.5") == 5.5
    for bits in ("1.5", "9.0"):
        with pytest.raises(QuantizationError, match=rf"layers\.0\.\*: {bits}0+ .* possible are 2\.000 to 8\.000"):
            needed(f"layers.0.*={bits}")


def test_overrides_that_mean_nothing_are_refused() -> None:
    with pytest.raises(QuantizationError, match=r"layers\.9\.\* fits no matrix; they are called model\.layers\.0\.mlp"):
        _bits(("layers.9.*=4",), 4.0)
    together = [_choices("model.layers.0.mlp.up_proj", "model.layers.0.mlp.down_proj")]
    with pytest.raises(QuantizationError, match="fits only some of"):
        allocate_with_overrides(together, HullAllocator(), 4.0, (parse_override("*.up_proj=4"),), 0)
    for word in ("layers.0", "=4", "x=", "x=nan", "x=40"):
        with pytest.raises(ConfigError, match="override must be PATTERN=BITS"):
            parse_override(word)
