"""`quire quantize`"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.config import EngineConfig
from quantize.job import quantize_model
from quantize.options import QuantizeOptions
from quantize.report import QuantizeReport
from quantize.work_directory import kept_work
from quire.arguments import ArgumentParser, add_settings
from quire.configuration import add_model_options, local_engine, sources_of
from quire.interruption import termination_as_interrupt
from quire.progress import show_progress
from quire.settings import resolve
from quire.terminal import notify
from quire.text_generator import open_text_generator

SETTINGS = ("device", "threads", "ignore_config_keys")
"""Engine settings of the quantizer."""


def run(arguments: Sequence[str]) -> int:
    """Quantize a model and say what came of it."""
    parsed = _parser().parse(arguments)
    options = resolve(QuantizeOptions, sources_of(parsed)).config
    engine = local_engine(parsed)
    options = replace(options, source=Path(engine.model))
    writer = None if options.text else open_text_generator(_writing(engine))
    try:
        with termination_as_interrupt(), show_progress(sys.stderr) as progress:
            report = quantize_model(options, progress=progress, generator=writer)
    except KeyboardInterrupt:
        work = kept_work(options.out)
        if work is not None:
            notify(f"Interrupted. What is done is kept in {work}: the same command goes on from there.")
        raise
    print(report.to_json() if parsed.json else _summary(report))
    return 0


def _writing(engine: EngineConfig) -> EngineConfig:
    """Settings of the engine that writes the calibration text: what computes it, but none that are about serving."""
    return EngineConfig(
        model=engine.model,
        device=engine.device,
        kernels=engine.kernels,
        threads=engine.threads,
        ignore_config_keys=engine.ignore_config_keys,
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser("quire quantize", "Make an EXL2 model directory from a Hugging Face one.")
    parser.add_argument("model", metavar="MODEL", help="model directory or hub id (org/name)")
    parser.add_argument(
        "out", metavar="OUT", help="new or empty directory; the model appears there only when it is complete"
    )
    parser.add_argument("--json", action="store_true", help="print the full report, matrix by matrix, as JSON")
    add_settings(parser, QuantizeOptions, "quantization", leave_out={"source", "out", *SETTINGS})
    add_model_options(parser, SETTINGS)
    return parser


def _sizes(report: QuantizeReport) -> str:
    asked = f"{report.counted_bpw:.3f} of the {report.bpw_requested:g} asked for"
    if report.bpw_total:
        return f"{asked}, head included; layers {report.bpw:.3f}, head {report.head_bpw:.3f}"
    return f"{asked}; head {report.head_bpw:.3f}"


def _summary(report: QuantizeReport) -> str:
    calibration = report.calibration
    rows = [
        ("bits/weight", _sizes(report)),
        ("weights", f"{report.weight_bytes / 2**20:.1f} MiB in {len(report.matrices)} quantized matrices"),
        ("calibration", f"{calibration['rows']} rows of {calibration['length']} tokens, {calibration['dataset']}"),
        (
            "mean error",
            f"{sum(each.error for each in report.matrices) / len(report.matrices):.4f} of a matrix's output",
        ),
        ("time", f"{sum(report.seconds.values()):.0f} s"),
    ]
    lines = [f"{report.source} -> {report.out}", *(f"  {name:<12} {value}" for name, value in rows)]
    lines += [f"  warning      {warning}" for warning in report.warnings]
    return "\n".join([*lines, "", f"Serve it: quire serve {shlex.quote(report.out)}"])
