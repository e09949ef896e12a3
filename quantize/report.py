"""What a quantization job did, in numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


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


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """Result of a job.

    Attributes:
        bpw_requested: as asked for.
        bpw: achieved bits per weight of the decoder layers' matrices; never more than requested.
        head_bpw: achieved bits per weight of the output head.
        weight_bytes: bytes of all tensors written.
        calibration: `rows`, `length` and `dataset`, as in the checkpoint's `quantization_config`.
        matrices: every quantized matrix in model order, the head last.
        warnings: what a person should know.
        seconds: how long each stage took.
    """

    source: str
    out: str
    bpw_requested: float
    bpw: float
    head_bits: int
    head_bpw: float
    weight_bytes: int
    calibration: dict[str, int | str]
    matrices: tuple[MatrixReport, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    def to_json(self) -> str:
        """The report as a JSON object."""
        return json.dumps(asdict(self), indent=2)
