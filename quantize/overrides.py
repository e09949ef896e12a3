"""Widths that people fix by hand for some of the matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from engine.errors import ConfigError, QuantizationError
from quantize.exl2.allocate import Allocator, Choices
from quantize.exl2.candidates import Option

PREFIX = "model."


@dataclass(frozen=True, slots=True)
class Override:
    """Bits per weight for the matrices whose names fit a pattern.

    Attributes:
        pattern: shell pattern, of the whole name or of what follows `model.`: `layers.0.*`, `*.down_proj`.
        bpw: of these matrices together; what they take more or less is taken from or given to the others.
    """

    pattern: str
    bpw: float

    def fits(self, name: str) -> bool:
        """Whether the matrix `name` is meant."""
        return fnmatchcase(name, self.pattern) or fnmatchcase(name.removeprefix(PREFIX), self.pattern)


def parse_override(word: str) -> Override:
    """`PATTERN=BITS`.

    Raises:
        ConfigError: it is not of this form.
    """
    pattern, _, number = word.rpartition("=")
    try:
        bpw = float(number)
    except ValueError:
        bpw = math.nan
    if not pattern or not 1 <= bpw <= 16:
        raise ConfigError(
            f"override must be PATTERN=BITS, for example 'layers.0.*=6' or '*.down_proj=5.5', not '{word}'."
        )
    return Override(pattern, bpw)


def allocate_with_overrides(
    choices: Sequence[Choices], allocate: Allocator, bpw: float, overrides: Sequence[Override], seed: int
) -> list[Option]:
    """An option of each of `choices`: those that an override names within its bits, the others within the rest.

    Of several overrides that fit a matrix the last one counts. The budget `bpw` holds for all of them together.

    Raises:
        QuantizationError: an override fits nothing, or only a part of what is chosen together; or a budget cannot be
            met, and the message gives the possible range.
    """
    groups = _by_override(choices, overrides)
    weights = sum(each.weights for each in choices)
    budget = bpw * weights
    picked: dict[int, Option] = {}
    for override, indexes in groups.items():
        if override is not None and indexes:
            found = _allocate(choices, indexes, allocate, override.bpw, seed, f"override {override.pattern}")
            picked |= found
            budget -= sum(option.bits for option in found.values())
    rest = groups[None]
    if rest:
        left = budget / sum(choices[index].weights for index in rest)
        picked |= _allocate(choices, rest, allocate, left, seed, "what the overrides leave" if overrides else "bpw")
    elif budget < 0:
        raise QuantizationError(f"The overrides take {-budget / weights:.3f} bits per weight more than bpw allows.")
    return [picked[index] for index in range(len(choices))]


def bits_with_overrides(choices: Sequence[Choices], overrides: Sequence[Override]) -> float:
    """The fewest bits per weight of all `choices` together, those that an override names taking what it says.

    Needs their sizes only, so that it can be asked before anything is measured.

    Raises:
        QuantizationError: an override fits nothing, only a part of what is chosen together, or says more or fewer bits
            than the matrices it fits can take.
    """
    needed = 0
    for override, indexes in _by_override(choices, overrides).items():
        some = [choices[index] for index in indexes]
        if some and override is not None:
            fewest, most = possible_bits(some)
            if not fewest <= override.bpw <= most:
                raise _unreachable(f"override {override.pattern}", override.bpw, fewest, most)
            needed += int(override.bpw * sum(each.weights for each in some))
        else:
            needed += sum(min(option.bits for option in each.options) for each in some)
    return needed / sum(each.weights for each in choices)


def possible_bits(choices: Sequence[Choices]) -> tuple[float, float]:
    """The fewest and the most bits per weight that the options allow."""
    weights = sum(each.weights for each in choices)
    fewest = sum(min(option.bits for option in each.options) for each in choices)
    most = sum(max(option.bits for option in each.options) for each in choices)
    return fewest / weights, most / weights


def _by_override(choices: Sequence[Choices], overrides: Sequence[Override]) -> dict[Override | None, list[int]]:
    groups: dict[Override | None, list[int]] = {None: [], **{override: [] for override in overrides}}
    fitting: set[Override] = set()
    for index, each in enumerate(choices):
        chosen: Override | None = None
        for override in overrides:
            fits = [override.fits(name) for name in each.names]
            if any(fits) and not all(fits):
                raise QuantizationError(
                    f"The override {override.pattern} fits only some of {', '.join(each.names)}, which this recipe "
                    "chooses together."
                )
            if all(fits):
                chosen = override
                fitting.add(override)
        groups[chosen].append(index)
    unused = [override.pattern for override in overrides if override not in fitting]
    if unused:
        raise QuantizationError(
            f"The override {unused[0]} fits no matrix; they are called {choices[0].names[0]} and so on."
        )
    return groups


def _allocate(
    choices: Sequence[Choices], indexes: Sequence[int], allocate: Allocator, bpw: float, seed: int, what: str
) -> dict[int, Option]:
    some = [choices[index] for index in indexes]
    fewest, most = possible_bits(some)
    if not fewest <= bpw:
        raise _unreachable(what, bpw, fewest, most)
    return dict(zip(indexes, allocate(some, bpw, seed), strict=True))


def _unreachable(what: str, bpw: float, fewest: float, most: float) -> QuantizationError:
    return QuantizationError(
        f"{what}: {bpw:.3f} bits per weight cannot be reached; possible are {fewest:.3f} to {most:.3f}."
    )
