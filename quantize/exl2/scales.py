"""Scales of one group: a maximum for the group and a 4-bit code for each column.

The format (docs/formats.md) gives a group of rows one `scale_max` and every column a code c in 0…15; the column's
step is t = RN16((c + 1)² · RN16(scale_max / 256)), RN16 being rounding to half precision. How they are chosen is the
encoder's affair, hence a strategy.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.ops.exl2 import scales_from_codes

_SMALLEST_STEP = 2.0**-30
"""Stands for a step of 0, so that nothing is divided by it; far below what half precision can hold."""

_SCRATCH_ELEMENTS = 1 << 20
"""Elements of a temporary tensor: small enough for the cache."""


@dataclass(frozen=True, slots=True)
class GroupScales:
    """Scales chosen for one group of N columns.

    Attributes:
        codes: uint8 [N], 0 to 15.
        scale_max: float16, no dimensions.
        steps: float32 [N], t of the format: exactly what a reader will multiply the codes with.
    """

    codes: torch.Tensor
    scale_max: torch.Tensor
    steps: torch.Tensor


class ScaleSearch(Protocol):
    """Chooses the scales of one group."""

    def __call__(self, rows: torch.Tensor, bits: int, importance: torch.Tensor) -> GroupScales:
        """Scales for the weights `rows` [R, N] float32 at `bits` bits.

        `importance` [R] is what a squared error of one in each row costs in the output.
        """
        ...


def column_steps(codes: torch.Tensor, scale_max: torch.Tensor) -> torch.Tensor:
    """Float32 steps t [C, N] of columns with `codes` [C, N] under `scale_max` [C] float16, rounded as a reader does."""
    return scales_from_codes(codes, scale_max).float()


def round_to_codes(rows: torch.Tensor, steps: torch.Tensor, bits: int) -> torch.Tensor:
    """Nearest code of every weight, as float32: rint(w / t) + 2^(b-1), clamped; a column with t = 0 is all zero."""
    zero, top = 1 << (bits - 1), (1 << bits) - 1
    codes = torch.clamp(torch.round(rows / steps) + zero, 0, top)
    return torch.where(steps == 0, float(zero), codes)


def decode(codes: torch.Tensor, steps: torch.Tensor, bits: int) -> torch.Tensor:
    """Float32 weights of float32 `codes`, rounded to half as the format says."""
    return ((codes - (1 << (bits - 1))) * steps).half().float()


class LevelRounding:
    """Rounds weights again and again as `round_to_codes` and `decode` do, without taking new memory.

    A level is a code less that of zero. The row by row loops of the quantizer are made of little else.

    Args:
        steps: float32, t of every column; weights that are rounded have this shape.
        bits: width of the codes.
    """

    def __init__(self, steps: torch.Tensor, bits: int) -> None:
        self._least, self._most = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        self._steps = steps
        self._divisors = torch.where(steps == 0, math.inf, steps)  # so that the level of a column with t = 0 is 0
        self._half = torch.empty_like(steps, dtype=torch.float16)

    def __call__(self, weights: torch.Tensor, levels: torch.Tensor, decoded: torch.Tensor) -> None:
        """Fill `levels` with the levels of `weights`, `decoded` with what a reader makes of them; all float32."""
        torch.div(weights, self._divisors, out=levels)
        levels.round_().clamp_(self._least, self._most)
        self._half.copy_(torch.mul(levels, self._steps, out=decoded))
        decoded.copy_(self._half)


class CommonFactorSearch:
    """One factor for the whole group, as ExLlamaV2 chooses it (section 7.4 of the format description).

    Every column's code comes from its largest weight. One of 97 factors between 0.70 and 1.20, the same for all
    columns, minimises the sum of errors to the power 3.5.
    """

    factors = tuple(0.70 * (1 - i / 96) + 1.20 * (i / 96) for i in range(97))
    exponent = 3.5

    def __call__(self, rows: torch.Tensor, bits: int, importance: torch.Tensor) -> GroupScales:  # noqa: ARG002
        """See `ScaleSearch`; the importance of rows is not used."""
        zero, top = 1 << (bits - 1), (1 << bits) - 1
        largest = (rows.abs().amax(0) + 1e-12) / (top / 2)
        group_max = largest.max()
        roots = torch.clamp(torch.round(16 * torch.sqrt(largest / group_max)), 1, 16)
        trial = (roots / 16).square() * group_max
        errors = []
        for factor in self.factors:
            steps = trial * factor
            difference = torch.clamp(torch.round(rows / steps), -zero, top - zero) * steps - rows
            errors.append(difference.abs().pow(self.exponent).sum())
        best = int(torch.stack(errors).argmin())
        codes = (roots - 1).to(torch.uint8)
        scale_max = (group_max * self.factors[best]).half()
        return GroupScales(codes, scale_max, column_steps(codes[None], scale_max[None])[0])


class FreeCodeSearch:
    """Every column keeps the scale code that serves it best; the group's maximum minimises what remains.

    Errors are squared and weighted with the importance of their row, so they estimate what the output loses. For
    every column they are measured at a few steps around the one its largest weight calls for, and interpolated
    between: that is enough to choose among many maxima. Only for the best one codes are compared for real.
    """

    steps_tried = 14
    maxima_tried = 17
    last_step = 1.25  # relative to largest weight / half the number of codes

    def __call__(self, rows: torch.Tensor, bits: int, importance: torch.Tensor) -> GroupScales:
        """See `ScaleSearch`."""
        largest = (rows.abs().amax(0) + 1e-12) / (((1 << bits) - 1) / 2)
        # with few codes it pays to clip the largest weights, with many it does not
        first_step = 1 - 1.1 * 2 ** (-bits / 2)
        factors = torch.logspace(
            math.log2(first_step), math.log2(self.last_step), self.steps_tried, 2, device=rows.device
        )
        curves = self._errors(rows, factors[:, None] * largest, bits, importance)
        codes, scale_max = self._choose(curves, largest, factors)
        neighbours = torch.clamp(codes + torch.tensor([[0], [-1], [1]], device=rows.device), 0, 15).to(torch.uint8)
        steps = column_steps(neighbours, scale_max.expand(3))
        chosen = self._errors(rows, steps, bits, importance).argmin(0, keepdim=True)
        return GroupScales(neighbours.gather(0, chosen)[0], scale_max, steps.gather(0, chosen)[0])

    def _choose(
        self, curves: torch.Tensor, largest: torch.Tensor, factors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Codes [N] and the maximum that promise the least total error."""
        all_codes = torch.arange(16, dtype=torch.uint8, device=curves.device)[:, None]
        relative = torch.linspace(float(factors[0]), float(factors[-1]), self.maxima_tried, device=curves.device)
        maxima = (largest.max() * relative).half()
        totals, choices = [], []
        for part in torch.split(maxima, max(1, _SCRATCH_ELEMENTS // (16 * largest.numel()))):
            steps = column_steps(all_codes.repeat(len(part), 1), part.repeat_interleave(16))
            errors, codes = _interpolate(curves, factors, steps / largest).view(len(part), 16, -1).min(1)
            totals.append(errors.sum(1))
            choices.append(codes)
        best = torch.cat(totals).argmin()
        return torch.cat(choices)[best], maxima[best]

    @staticmethod
    def _errors(rows: torch.Tensor, steps: torch.Tensor, bits: int, importance: torch.Tensor) -> torch.Tensor:
        """Weighted squared error of each column [C, N] under each of C candidate steps [C, N].

        In place and without the format's last rounding, which is far below a step: this is where the time goes.
        """
        zero = 1 << (bits - 1)
        errors = torch.empty_like(steps)
        scratch = torch.empty_like(rows)
        for index, candidate in enumerate(steps.clamp_min(_SMALLEST_STEP)):
            torch.div(rows, candidate, out=scratch)
            scratch.round_().clamp_(-zero, zero - 1).mul_(candidate).sub_(rows).square_()
            torch.mv(scratch.T, importance, out=errors[index])
        return errors


def _interpolate(curves: torch.Tensor, factors: torch.Tensor, steps: torch.Tensor) -> torch.Tensor:
    """Errors [C, N] at `steps` [C, N] from the errors `curves` [F, N] at `factors` [F], a geometric series.

    Outside of the series rounding errors grow with the square of the step, and clipping errors faster still.
    """
    last = len(factors) - 1
    ratio = float(factors[1] / factors[0])
    position = torch.log(steps.clamp_min(_SMALLEST_STEP) / factors[0]) / math.log(ratio)
    inside = position.clamp(0, last)
    lower = inside.floor().clamp(max=last - 1).long()
    errors = torch.lerp(curves.gather(0, lower), curves.gather(0, lower + 1), inside - lower)
    return errors * ratio ** (4 * (inside - position).clamp_min(0) + 2 * (position - inside).clamp_min(0))
