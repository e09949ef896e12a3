"""Second moments of a matrix's inputs, what they are needed for, and their factor as GPTQ needs it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from engine.errors import QuantizationError

DAMPING = 0.12
LEAST_DAMPING = 1e-5
DAMPING_STEPS = 10
LARGEST_HALF = torch.finfo(torch.float16).max


class InputMoments:
    """Sums over calibration rows for matrices that share an input; K input features.

    X are the inputs the quantized model produces, X₀ those of the original, R and R₀ [T, N] the residual streams the
    matrix writes to.

    Args:
        name: what the inputs belong to, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self._square: torch.Tensor | None = None
        self._input_drift: torch.Tensor | None = None
        self._residual_drift: torch.Tensor | None = None

    def add(
        self, inputs: torch.Tensor, original: torch.Tensor | None = None, residual_drift: torch.Tensor | None = None
    ) -> None:
        """Add one calibration row: X [T, K], X₀ [T, K] and R₀ − R [T, N], the last two where they are known.

        Raises:
            QuantizationError: the inputs hold NaN or infinity; the message names the row.
        """
        for each in (inputs, original):
            # NaN and infinity spread to the sum, which is quick; it may also leave the range by itself
            if each is not None and not bool(each.sum().isfinite()) and not bool(each.isfinite().all()):
                token = int((~torch.isfinite(each).all(dim=1)).nonzero()[0])
                raise QuantizationError(
                    f"The inputs of {self.name} are not finite in calibration row {self.rows}, token {token}. "
                    "Check the model's weights, or use another calibration text."
                )
        transposed = inputs.float().T
        self._square = _accumulate(self._square, transposed, inputs.float())
        if original is not None:
            self._input_drift = _accumulate(self._input_drift, transposed, original.float() - inputs.float())
        if residual_drift is not None:
            self._residual_drift = _accumulate(self._residual_drift, transposed, residual_drift.float())
        self.rows += 1

    def hessian(self) -> torch.Tensor:
        """H = XᵀX [K, K] float32, the mean over rows (not tokens).

        Raises:
            QuantizationError: nothing was added.
        """
        if self._square is None:
            raise QuantizationError(f"No calibration row reached {self.name}.")
        return self._square / self.rows

    def target(self, weight: torch.Tensor, damping: float, residual_share: float) -> torch.Tensor:
        """The weights [K, N] that make of X what `weight` [K, N] makes of X₀, as nearly as linear weights can.

        W + (H + λI)⁻¹ Xᵀ((X₀ − X) W + s (R₀ − R)): errors made earlier in the model are made good as far as they show
        in X, and the fraction s of the residual stream's own error is repaid.

        Raises:
            QuantizationError: they lie beyond half precision, in which the format keeps their scales.
        """
        if self._input_drift is None and self._residual_drift is None:
            return weight
        wanted = torch.zeros_like(weight)
        if self._input_drift is not None:
            wanted += self._input_drift @ weight
        if self._residual_drift is not None:
            wanted += residual_share * self._residual_drift
        damped = self.hessian()
        damped.diagonal().add_(damping)
        target = weight + torch.cholesky_solve(wanted / self.rows, torch.linalg.cholesky(damped))
        largest = float(target.abs().max())
        if not largest <= LARGEST_HALF:  # so that NaN is found too
            raise QuantizationError(
                f"{self.name} would need weights of up to {largest:.3g} to make good what was rounded before it; half "
                f"precision ends at {LARGEST_HALF:.0f}. The source's weights are too large to be quantized."
            )
        return target

    def relative_error(self, target: torch.Tensor, weight: torch.Tensor) -> float:
        """‖X (Ŵ − W)‖ / ‖X W‖ of `weight` [K, N] against `target` [K, N]; 0 where the target gives nothing."""
        hessian = self.hessian()
        difference = weight - target
        lost = float((difference * (hessian @ difference)).sum())
        whole = float((target * (hessian @ target)).sum())
        return math.sqrt(max(lost, 0.0) / whole) if whole > 0 else 0.0


def _accumulate(total: torch.Tensor | None, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left @ right if total is None else total.addmm_(left, right)


@dataclass(frozen=True, slots=True)
class HessianFactor:
    """A damped Hessian, sorted and factored.

    Attributes:
        order: int64 [K] features by falling energy: the stored order.
        hessian: float32 [K, K] H + λI, in stored order.
        upper: float32 [K, K] U with UᵀU = (H + λI)⁻¹, in stored order.
        damping: λ in total.
        damping_steps: how often λ was added until the factorization succeeded; 1 is normal.
    """

    order: torch.Tensor
    hessian: torch.Tensor
    upper: torch.Tensor
    damping: float
    damping_steps: int


def factor_hessian(hessian: torch.Tensor, name: str) -> HessianFactor:
    """Sort, damp and factor a Hessian [K, K] in feature order.

    λ = max(0.12 · mean(diag H), 1e-5) is added until the factorization succeeds, ten times at most.

    Raises:
        QuantizationError: it never does; the message names the matrix.
    """
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True)
    damped = hessian[order][:, order]
    step = max(DAMPING * float(damped.diagonal().mean()), LEAST_DAMPING)
    for count in range(1, DAMPING_STEPS + 1):
        damped.diagonal().add_(step)
        upper = _inverse_factor(damped)
        if upper is not None:
            return HessianFactor(order, damped, upper, step * count, count)
    raise QuantizationError(
        f"The Hessian of {name} cannot be factored even after damping its diagonal {DAMPING_STEPS} times. "
        "Use more or other calibration text."
    )


def _inverse_factor(matrix: torch.Tensor) -> torch.Tensor | None:
    """Upper Cholesky factor of the inverse, or None where it does not exist in float32."""
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        return None
    upper: torch.Tensor
    upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if int(failed) or not bool(torch.isfinite(upper).all()):
        return None
    return upper
