"""What a quantization job did, in numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import QuantizationError
from engine.model_files import read_json_object
from quantize.calibration import CalibrationRows
from quantize.options import QuantizeOptions


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


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """Result of a job.

    Attributes:
        bpw_requested: as asked for.
        bpw_total: whether that was to include the output head.
        bpw: achieved bits per weight of the decoder layers' matrices.
        head_bits: as asked for, or about what was chosen.
        head_bpw: achieved bits per weight of the output head.
        counted_bpw: achieved bits per weight of what was to be counted; never more than requested.
        weight_bytes: bytes of all tensors written.
        calibration: `rows`, `length` and `dataset`, as in the checkpoint's `quantization_config`.
        matrices: every quantized matrix in model order, the head last.
        warnings: what a person should know.
        seconds: how long each stage took.
    """

    source: str
    out: str
    bpw_requested: float
    bpw_total: bool
    bpw: float
    head_bits: int
    head_bpw: float
    counted_bpw: float
    weight_bytes: int
    calibration: dict[str, int | str]
    matrices: tuple[MatrixReport, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]

    def to_json(self) -> str:
        """The report as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def matrix_report_from_json(value: dict[str, Any]) -> MatrixReport:
    """What `asdict` made of a `MatrixReport`, written as JSON and read again."""
    fields = dict(value)
    groups = tuple((int(bits), int(rows)) for bits, rows in fields.pop("groups"))
    return MatrixReport(groups=groups, **fields)


def read_report(path: Path) -> QuantizeReport:
    """The report in a file.

    Raises:
        QuantizationError: there is none, or it is damaged.
    """
    content = read_json_object(path, QuantizationError)
    try:
        fields = dict(content or {})
        matrices = tuple(matrix_report_from_json(each) for each in fields.pop("matrices"))
        return QuantizeReport(matrices=matrices, warnings=tuple(fields.pop("warnings")), **fields)
    except (KeyError, TypeError, ValueError) as error:
        raise QuantizationError(f"{path} is no report of a quantization ({error!r}).") from None


def quantize_report(
    options: QuantizeOptions,
    calibration: CalibrationRows,
    matrices: list[MatrixReport],
    weight_bytes: int,
    seconds: dict[str, float],
) -> QuantizeReport:
    """The report of a finished job; arguments as of `QuantizeReport`, the head being the last of the matrices."""
    *decoder, head = matrices
    weights = sum(matrix.in_features * matrix.out_features for matrix in decoder)
    bits = sum(matrix.stored_bits for matrix in decoder)
    head_weights = head.in_features * head.out_features
    return QuantizeReport(
        source=str(options.source),
        out=str(options.out),
        bpw_requested=options.bpw,
        bpw_total=options.bpw_total,
        bpw=bits / weights,
        head_bits=round(head.bits_per_weight) if options.bpw_total else options.head_bits,
        head_bpw=head.bits_per_weight,
        counted_bpw=(bits + head.stored_bits) / (weights + head_weights) if options.bpw_total else bits / weights,
        weight_bytes=weight_bytes,
        calibration=calibration.facts,
        matrices=tuple(matrices),
        warnings=_warnings(calibration, matrices),
        seconds=seconds,
    )


def _warnings(calibration: CalibrationRows, matrices: list[MatrixReport]) -> tuple[str, ...]:
    warnings = [
        f"The Hessian of {matrix.name} had to be damped {matrix.damping_steps} times; its inputs are nearly singular."
        for matrix in matrices
        if matrix.damping_steps > 1
    ]
    tokens, widest = calibration.tokens.numel(), max(matrix.in_features for matrix in matrices)
    if tokens < 2 * widest:
        warnings.append(
            f"The calibration has only {tokens} tokens for matrices of {widest} inputs; more rows give better models."
        )
    return tuple(warnings)
