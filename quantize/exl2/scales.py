"""Scales of one group: a maximum for the group and a 4-bit code for each column.

The format (docs/formats.md) gives a group of rows one `scale_max` and every column a code c in 0…15; the column's
step is t = RN16((c + 1)² · RN16(scale_max / 256)), RN16 being rounding to half precision. How they are chosen is the
encoder's affair, hence a strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from engine.ops.exl2 import scales_from_codes


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

    For each of a few maxima every column tries the codes around the one its largest weight calls for. Errors are
    squared and weighted with the importance of their row, so they estimate what the output loses.
    """

    factors = tuple(0.62 + 0.53 * i / 12 for i in range(13))
    offsets = tuple(range(-4, 3))

    def __call__(self, rows: torch.Tensor, bits: int, importance: torch.Tensor) -> GroupScales:
        """See `ScaleSearch`."""
        top = (1 << bits) - 1
        largest = (rows.abs().amax(0) + 1e-12) / (top / 2)
        group_max = largest.max()
        offsets = torch.tensor(self.offsets, device=rows.device)[:, None]
        totals: list[float] = []
        found: list[GroupScales] = []
        for factor in self.factors:
            scale_max = (group_max * factor).half()
            nearest = torch.round(16 * torch.sqrt(largest / group_max)) - 1
            codes = torch.clamp(nearest + offsets, 0, 15).to(torch.uint8)
            steps = column_steps(codes, scale_max.expand(len(self.offsets)))
            errors = self._errors(rows, steps, bits, importance)
            chosen = errors.argmin(0, keepdim=True)
            totals.append(float(errors.gather(0, chosen).sum()))
            found.append(GroupScales(codes.gather(0, chosen)[0], scale_max, steps.gather(0, chosen)[0]))
        return found[totals.index(min(totals))]

    @staticmethod
    def _errors(rows: torch.Tensor, steps: torch.Tensor, bits: int, importance: torch.Tensor) -> torch.Tensor:
        """Weighted squared error of each column [C, N] under each of C candidate steps [C, N]."""
        errors = torch.empty_like(steps)
        for index, candidate in enumerate(steps):
            difference = decode(round_to_codes(rows, candidate, bits), candidate, bits) - rows
            errors[index] = importance @ difference.square()
        return errors
