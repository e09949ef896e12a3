"""Refinement after GPTQ: lowering tr(ΔᵀHΔ) further by changing what is stored, a little at a time.

GPTQ visits every row once and never looks back, and finds scales before it knows what it will push into their rows.
Here all rows and scales are visited again, each time choosing what is best given everything else. A change is made
only where it lowers the error, so a refined matrix is never worse than the one that came in. H is the damped Hessian
GPTQ used; Δ = Ŵ - W, in stored order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from quantize.exl2.scales import LevelRounding, column_steps, decode
from quantize.gptq import QuantizedMatrix
from quantize.hessian import HessianFactor

SCALE_CODES = 16
NEIGHBOURS = (-1, 0, 1)
"""Scale codes that a column is solved again under, relative to its own."""


@dataclass(frozen=True, slots=True)
class Refinement:
    """Coordinate descent on codes, scale codes and maxima refitted in between.

    Attributes:
        passes: how often every group is visited.
        maxima: values of a group's maximum that are tried, relative to the present one.
    """

    passes: int = 4
    maxima: tuple[float, ...] = (0.88, 0.92, 0.95, 0.97, 0.985, 1.0, 1.015, 1.03, 1.05, 1.08, 1.12)

    def __call__(self, target: torch.Tensor, factor: HessianFactor, matrix: QuantizedMatrix) -> QuantizedMatrix:
        """Refine `matrix`, which GPTQ made of `target` [K, N] (feature order)."""
        state = _State(target, factor, matrix)
        for _ in range(self.passes):
            for group in state.groups:
                state.refit_scales(group, self.maxima)
                state.solve_again(group)
                state.round_again(group)
        return state.result(matrix)


@dataclass(frozen=True, slots=True)
class _Group:
    """A group, and what every pass over it needs of the rows' own part of H.

    Attributes:
        index: which group it is.
        bits: width of its codes.
        rows: its R rows, in stored order.
        inverse: float32 [R, R], of the rows' part of H.
        upper: float32 [R, R], the upper Cholesky factor of `inverse`.
    """

    index: int
    bits: int
    rows: slice
    inverse: torch.Tensor
    upper: torch.Tensor


class _State:
    """A matrix in stored order while it is being refined, with the slope HΔ of its error."""

    def __init__(self, target: torch.Tensor, factor: HessianFactor, matrix: QuantizedMatrix) -> None:
        self._hessian = factor.hessian
        self._codes = matrix.codes.float()
        self._decoded = matrix.weight[factor.order]
        self._slope = self._hessian @ (self._decoded - target[factor.order])
        self._scale_codes = matrix.scale_codes.clone()
        self._scale_max = matrix.scale_max.clone()
        self._steps = column_steps(self._scale_codes, self._scale_max)
        starts = torch.tensor([0, *(group.rows for group in matrix.groups)]).cumsum(0).tolist()
        self.groups = [
            self._group(index, group.bits, slice(start, start + group.rows))
            for index, (group, start) in enumerate(zip(matrix.groups, starts[:-1], strict=True))
        ]

    def _group(self, index: int, bits: int, rows: slice) -> _Group:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(self._hessian[rows, rows]))
        return _Group(index, bits, rows, inverse, torch.linalg.cholesky(inverse, upper=True))

    def round_again(self, group: _Group) -> None:
        """Give every row in turn the codes that are best for it given all other rows."""
        rows, steps = group.rows, self._steps[group.index]
        block = self._hessian[rows, rows]
        slope, codes, decoded = self._slope[rows].clone(), self._codes[rows], self._decoded[rows].clone()
        zero, rounding = 1 << (group.bits - 1), LevelRounding(steps, group.bits)
        wanted, levels, candidate, gap, change = torch.empty(5, len(steps), device=steps.device).unbind()
        for row, energy in enumerate(block.diagonal().tolist()):
            present, kept = decoded[row], codes[row]
            torch.sub(present, torch.div(slope[row], energy, out=wanted), out=wanted)
            rounding(wanted, levels, candidate)
            torch.sub(candidate, wanted, out=gap).abs_()
            better = gap < wanted.sub_(present).abs_()
            torch.where(better, candidate, present, out=candidate)
            torch.where(better, levels.add_(zero), kept, out=kept)
            torch.sub(candidate, present, out=change)
            present.copy_(candidate)
            slope[row + 1 :].addr_(block[row + 1 :, row], change)
        self._move(group, decode(codes, steps, group.bits))

    def refit_scales(self, group: _Group, maxima: tuple[float, ...]) -> None:
        """Choose the group's maximum and scale codes anew for the codes its rows have."""
        rows, steps = group.rows, self._steps[group.index]
        levels = self._codes[rows] - (1 << (group.bits - 1))
        block = self._hessian[rows, rows]
        curvature = (levels * (block @ levels)).sum(0)
        slope = (levels * self._slope[rows]).sum(0)
        tried = (self._scale_max[group.index] * torch.tensor(maxima, device=steps.device)).half()
        all_codes = torch.arange(SCALE_CODES, dtype=torch.uint8, device=steps.device)[:, None]
        candidates = column_steps(all_codes.repeat(len(tried), 1), tried.repeat_interleave(SCALE_CODES))
        moves = candidates.view(len(tried), SCALE_CODES, 1) - steps
        gains, chosen = (2 * moves * slope + moves.square() * curvature).min(1)
        best = int(gains.sum(1).argmin())
        codes = chosen[best].to(torch.uint8)
        renewed = column_steps(codes[None], tried[best, None])[0]
        decoded = decode(self._codes[rows], renewed, group.bits)
        change = decoded - self._decoded[rows]
        # exactly what the error changes by, all roundings included; columns share the maximum, so they move together
        gain = (change * (2 * self._slope[rows] + block @ change)).sum()
        if float(gain) < 0:
            self._scale_codes[group.index], self._scale_max[group.index] = codes, tried[best]
            self._steps[group.index] = renewed
            self._move(group, decoded)

    def solve_again(self, group: _Group) -> None:
        """Run GPTQ inside the group, given all other rows, under neighbouring scale codes; keep columns that gain."""
        rows, index = group.rows, group.index
        block, slope = self._hessian[rows, rows], self._slope[rows]
        wanted = self._decoded[rows] - group.inverse @ slope
        offsets = torch.tensor(NEIGHBOURS, device=wanted.device)[:, None]
        scale_codes = (self._scale_codes[index] + offsets).clamp(0, SCALE_CODES - 1).to(torch.uint8)
        steps = column_steps(scale_codes, self._scale_max[index].expand(len(NEIGHBOURS)))
        solved = _solve(wanted, group.upper, steps, group.bits)
        best = solved.errors.argmin(0, keepdim=True)
        renewed = steps.gather(0, best)[0]
        codes = solved.codes.gather(1, best.expand(len(wanted), 1, -1))[:, 0]
        decoded = decode(codes, renewed, group.bits)
        change = decoded - self._decoded[rows]
        gains = (change * (2 * slope + block @ change)).sum(0) < 0
        for kept, found in (
            (self._scale_codes[index], scale_codes.gather(0, best)[0]),
            (self._steps[index], renewed),
            (self._codes[rows], codes),
        ):
            kept.copy_(torch.where(gains, found, kept))
        self._move(group, torch.where(gains, decoded, self._decoded[rows]))

    def _move(self, group: _Group, decoded: torch.Tensor) -> None:
        """Put `decoded` in place of the group's rows."""
        change = decoded - self._decoded[group.rows]
        self._decoded[group.rows] = decoded
        self._slope.addmm_(self._hessian[:, group.rows], change)

    def result(self, matrix: QuantizedMatrix) -> QuantizedMatrix:
        """The refined matrix."""
        weight = torch.empty_like(self._decoded)
        weight[matrix.order] = self._decoded
        return replace(
            matrix,
            codes=self._codes.to(torch.uint8),
            scale_codes=self._scale_codes,
            scale_max=self._scale_max,
            weight=weight,
        )


@dataclass(frozen=True, slots=True)
class _Solved:
    """A group of R rows under C candidate steps: codes float32 [R, C, N], errors [C, N]."""

    codes: torch.Tensor
    errors: torch.Tensor


def _solve(wanted: torch.Tensor, upper: torch.Tensor, steps: torch.Tensor, bits: int) -> _Solved:
    """GPTQ of the rows `wanted` [R, N] under each of the `steps` [C, N]; `upper` [R, R] is the factor of H⁻¹."""
    rounding = LevelRounding(steps, bits)
    rest = wanted[:, None].repeat(1, len(steps), 1)
    pushed, levels = torch.empty_like(rest), torch.empty_like(rest)
    errors, error, square = torch.zeros_like(steps), torch.empty_like(steps), torch.empty_like(steps)
    for row, scale in enumerate(upper.diagonal().tolist()):
        rounding(rest[row], levels[row], error)
        torch.sub(rest[row], error, out=error).div_(scale)
        errors.add_(torch.mul(error, error, out=square))
        later = slice(row + 1, None)
        rest[later].sub_(torch.mul(upper[row, later, None, None], error, out=pushed[later]))
    return _Solved(levels.add_(1 << (bits - 1)), errors)
