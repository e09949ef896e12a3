"""What a quantization job did, in numbers."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from engine.errors import QuantizationError
from engine.model_files import read_json_object
from quantize.calibration import CalibrationRows
from quantize.matrix_report import MatrixReport, matrix_report_from_json
from quantize.options import QuantizeOptions
from quantize.planning import SizePlan
from quantize.self_check import SelfCheck
from quantize.tally import Figures


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """Result of a job.

    Attributes:
        source, out: names of the directories, without what is above them: reports are published with models.
        bpw_requested: as asked for.
        bpw_total: whether that was to include the output head.
        bpw: achieved bits per weight of the decoder layers' matrices.
        head_bits: as asked for, or about what was chosen.
        head_bpw: achieved bits per weight of the output head.
        counted_bpw: achieved bits per weight of what was to be counted; never more than requested.
        weight_bytes: bytes of all tensors written.
        recipe, seed, overrides: as asked for.
        calibration: `rows`, `length` and `dataset`, as in the checkpoint's `quantization_config`.
        damage: what the plan expected; see `SizePlan`.
        check: what the finished model was found to do, read back from its files; None if that was not wanted.
        matrices: every quantized matrix in model order, the head last.
        warnings: what a person should know.
        versions: of the programs that took part.
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
    recipe: str
    seed: int
    overrides: tuple[str, ...]
    calibration: dict[str, int | str]
    damage: float
    check: SelfCheck | None
    matrices: tuple[MatrixReport, ...]
    warnings: tuple[str, ...]
    versions: dict[str, str]
    seconds: dict[str, float]

    def to_json(self) -> str:
        """The report as a JSON object."""
        return json.dumps(asdict(self), indent=2)


def read_report(path: Path) -> QuantizeReport:
    """The report in a file.

    Raises:
        QuantizationError: there is none, or it is damaged.
    """
    content = read_json_object(path, QuantizationError)
    try:
        fields = dict(content or {})
        check = fields.pop("check")
        return QuantizeReport(
            matrices=tuple(matrix_report_from_json(each) for each in fields.pop("matrices")),
            warnings=tuple(fields.pop("warnings")),
            overrides=tuple(fields.pop("overrides")),
            check=None if check is None else SelfCheck(**{**check, "figures": Figures(**check["figures"])}),
            **fields,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise QuantizationError(f"{path} is no report of a quantization ({error!r}).") from None


def quantize_report(
    options: QuantizeOptions,
    plan: SizePlan,
    calibration: CalibrationRows,
    matrices: list[MatrixReport],
    check: SelfCheck | None,
    weight_bytes: int,
    seconds: dict[str, float],
) -> QuantizeReport:
    """The report of a finished job; arguments as of `QuantizeReport`, the head being the last of the matrices."""
    return QuantizeReport(
        source=options.source_name or options.source.resolve().name,
        out=options.out_of(plan.bpw_requested).resolve().name,
        bpw_requested=plan.bpw_requested,
        bpw_total=options.bpw_total,
        bpw=plan.bpw,
        head_bits=plan.head_bits,
        head_bpw=plan.head_bpw,
        counted_bpw=plan.counted_bpw,
        weight_bytes=weight_bytes,
        recipe=options.recipe,
        seed=options.seed,
        overrides=options.override,
        calibration=calibration.facts,
        damage=plan.damage,
        check=check,
        matrices=tuple(matrices),
        warnings=(*plan.warnings, *_warnings(calibration, matrices, check)),
        versions={"quire": _own_version(), "torch": str(torch.__version__), "python": platform.python_version()},
        seconds=seconds,
    )


def _warnings(calibration: CalibrationRows, matrices: list[MatrixReport], check: SelfCheck | None) -> Iterator[str]:
    for matrix in matrices:
        if matrix.damping_steps > 1:
            yield (
                f"The Hessian of {matrix.name} had to be damped {matrix.damping_steps} times; its inputs are nearly "
                "singular."
            )
    tokens, widest = calibration.tokens.numel(), max(matrix.in_features for matrix in matrices)
    if tokens < 2 * widest:
        yield f"The calibration has only {tokens} tokens for matrices of {widest} inputs; more rows give better models."
    if check is not None and not check.held_out:
        yield "The result was measured on rows it was calibrated on, for want of more text: the figures flatter."


def _own_version() -> str:
    try:
        return version("quire")
    except PackageNotFoundError:  # run from a source tree
        return "unknown"
