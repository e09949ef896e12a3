"""Scales of one group: a maximum for the group and a 4-bit code for each column.

The format (docs/formats.md) gives a group of rows one `scale_max` and every column a code c in 0…15; the column's
step is t = RN16((c + 1)² · RN16(scale_max / 256)), RN16 being rounding to half precision. How they are chosen is the
encoder's affair, hence a strategy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


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
    """Float32 steps t of columns with `codes` [..., N] under `scale_max` [...] float16, rounded as the format says."""
    unit = (scale_max.float() / 256).half().float()
    squares = (codes.float() + 1).square()
    return (squares * unit.unsqueeze(-1)).half().float()


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
        return GroupScales(codes, scale_max, column_steps(codes, scale_max))
