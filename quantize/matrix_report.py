"""What was done to one matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MatrixReport:
    """One quantized matrix.

    Attributes:
        name: checkpoint prefix, e.g. `model.layers.3.mlp.up_proj`.
        in_features, out_features: shape as stored.
        groups: (width in bits, rows) of every group, in stored order.
        bits_per_weight: stored bits per weight, everything counted.
        error: relative error of the matrix's output on the calibration inputs, ‖X(Ŵ − W)‖ / ‖XW‖, where W is what
            the quantizer aimed at.
        damping_steps: how often the Hessian's diagonal was damped before it could be factored; 1 is normal.
    """

    name: str
    in_features: int
    out_features: int
    groups: tuple[tuple[int, int], ...]
    bits_per_weight: float
    error: float
    damping_steps: int

    @property
    def stored_bits(self) -> float:
        """Everything stored for it."""
        return self.in_features * self.out_features * self.bits_per_weight


def matrix_report_from_json(value: dict[str, Any]) -> MatrixReport:
    """What `asdict` made of a `MatrixReport`, written as JSON and read again."""
    fields = dict(value)
    groups = tuple((int(bits), int(rows)) for bits, rows in fields.pop("groups"))
    return MatrixReport(groups=groups, **fields)
