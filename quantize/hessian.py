"""Second moments of a matrix's inputs, and their factor as GPTQ needs it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.errors import QuantizationError

DAMPING = 0.12
LEAST_DAMPING = 1e-5
DAMPING_STEPS = 10


class HessianAccumulator:
    """Sums XᵀX over calibration rows, in float32.

    Args:
        name: what the inputs belong to, for messages.
        in_features: K.
    """

    def __init__(self, name: str, in_features: int, device: torch.device | None = None) -> None:
        self.name = name
        self.rows = 0
        self._sum = torch.zeros(in_features, in_features, device=device)

    def add(self, inputs: torch.Tensor) -> None:
        """Add one calibration row's inputs [T, K].

        Raises:
            QuantizationError: the inputs hold NaN or infinity; the message names the row.
        """
        if not bool(torch.isfinite(inputs).all()):
            token = int((~torch.isfinite(inputs).all(dim=1)).nonzero()[0])
            raise QuantizationError(
                f"The inputs of {self.name} are not finite in calibration row {self.rows}, token {token}. "
                "Check the model's weights, or use another calibration text."
            )
        inputs = inputs.float()
        self._sum.addmm_(inputs.T, inputs)
        self.rows += 1

    def hessian(self) -> torch.Tensor:
        """The mean over rows (not tokens) [K, K] float32; the identity where there was no input."""
        if self.rows == 0:
            return torch.eye(self._sum.shape[0], device=self._sum.device)
        return self._sum / self.rows


@dataclass(frozen=True, slots=True)
class HessianFactor:
    """A damped Hessian, sorted and factored.

    Attributes:
        order: int64 [K] features by falling energy: the stored order.
        upper: float32 [K, K] U with UᵀU = (H + λI)⁻¹, in stored order.
        damping: λ in total.
        damping_steps: how often λ was added until the factorization succeeded; 1 is normal.
    """

    order: torch.Tensor
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
            return HessianFactor(order, upper, step * count, count)
    raise QuantizationError(
        f"The Hessian of {name} cannot be factored even after damping its diagonal {DAMPING_STEPS} times. "
        "Use more or other calibration text."
    )


def _inverse_factor(matrix: torch.Tensor) -> torch.Tensor | None:
    """Upper Cholesky factor of the inverse, or None where it does not exist in float32."""
    lower, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed):
        return None
    upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    if int(failed) or not bool(torch.isfinite(upper).all()):
        return None
    return upper
