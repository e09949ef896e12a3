"""The counter-based generator: fixed bits, and no visible pattern along any coordinate."""

from __future__ import annotations

import numpy as np
import pytest

from engine.sampling.random import uniforms

MASK = (1 << 64) - 1


def mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def uniform_oracle(seed: int, choice: int, position: int) -> float:
    golden = 0x9E3779B97F4A7C15
    h = mix(seed & MASK)
    h = mix((h + (choice + 1) * golden) & MASK)
    h = mix((h + (position + 1) * golden) & MASK)
    return (h >> 11) / 2**53


@pytest.mark.parametrize("seed", [0, 1, -1, 2**63, 2**64 + 5, 12345678901234567890])
def test_it_is_the_documented_hash_bit_for_bit(seed: int) -> None:
    coordinates = [(seed, choice, position) for choice in (0, 1, 127) for position in (0, 1, 2, 131071)]

    drawn = uniforms(*zip(*coordinates, strict=True))

    assert drawn.tolist() == [uniform_oracle(*each) for each in coordinates]


def test_the_bits_never_change() -> None:
    drawn = uniforms([0, 42, 42, 43], [0, 0, 1, 0], [0, 10, 10, 10])

    assert drawn.tolist() == [0.6524484863740322, 0.5641317697252465, 0.10238728257964325, 0.09508702319127948]


@pytest.mark.parametrize("axis", ["seeds", "choices", "positions"])
def test_numbers_along_one_coordinate_look_uniform_and_independent(axis: str) -> None:
    count, cells = 20000, 20
    fixed, moving = [3] * count, list(range(count))
    coordinates = {"seeds": fixed, "choices": fixed, "positions": fixed} | {axis: moving}

    drawn = uniforms(**coordinates)

    assert drawn.min() >= 0
    assert drawn.max() < 1
    histogram = np.bincount((drawn * cells).astype(int), minlength=cells)
    chi_square = ((histogram - count / cells) ** 2 / (count / cells)).sum()
    assert chi_square < 50  # 19 degrees of freedom: one in 10^4 of true random sequences exceeds this
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.03


def test_no_rows_no_numbers() -> None:
    assert uniforms([], [], []).shape == (0,)
