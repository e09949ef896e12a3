"""Random numbers that depend on (seed, choice, position) and on nothing else.

A generator with a state would make a token depend on how often the generator was asked before, and so on preemption,
batching and neighbours. A counter-based one has no state: each number is a hash of its coordinates. The hash is the
output function of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014;
constants of variant 13 by Stafford), applied once per coordinate:

    h = mix(seed mod 2^64)
    h = mix(h + (choice + 1) * GOLDEN)
    h = mix(h + (position + 1) * GOLDEN)        all arithmetic modulo 2^64
    u = (h >> 11) * 2^-53                       in [0, 1), every value exact in float64

Integer arithmetic alone decides the bits, so every platform draws the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Uint64Array = npt.NDArray[np.uint64]
Float64Array = npt.NDArray[np.float64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = np.uint64(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_MASK = (1 << 64) - 1


def uniforms(seeds: Sequence[int], choices: Sequence[int], positions: Sequence[int]) -> Float64Array:
    """One number in [0, 1) for each (seed, choice, position).

    Args:
        seeds: any integers; taken modulo 2^64.
        choices: as many indices of choices, not negative.
        positions: as many positions of the tokens to be drawn, not negative.

    Returns:
        float64 array of the same length.
    """
    hashes = _mix(np.array([seed & _MASK for seed in seeds], np.uint64))
    for counters in (choices, positions):
        hashes = _mix(hashes + (np.array(counters, np.uint64) + _ONE) * _GOLDEN)
    scaled: Float64Array = (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return scaled


def _mix(z: Uint64Array) -> Uint64Array:
    """The output function of SplitMix64, a bijection of 64-bit words."""
    z = (z ^ (z >> np.uint64(30))) * _MULTIPLIER_1
    z = (z ^ (z >> np.uint64(27))) * _MULTIPLIER_2
    return z ^ (z >> np.uint64(31))
