"""`quire quantize`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

from engine.config import EngineConfig
from quantize.job import quantize_model
from quantize.options import QuantizeOptions
from quantize.report import QuantizeReport
from quire.arguments import ArgumentParser, add_settings, from_command_line
from quire.hub import HubConfig, find_model
from quire.progress import show_progress
from quire.settings import resolve
from quire.text_generator import EngineTextGenerator


def run(arguments: Sequence[str]) -> int:
    """Quantize a model and say what came of it."""
    parsed = _parser().parse(arguments)
    given = from_command_line(parsed)
    options = resolve(QuantizeOptions, [given]).config
    source = find_model(parsed.source, resolve(HubConfig, [given]).config.revision)
    options = replace(options, source=source.directory)
    writer = EngineTextGenerator(EngineConfig(model=str(options.source), threads=options.threads))
    with show_progress(sys.stderr) as progress:
        report = quantize_model(options, progress=progress, generator=None if options.text else writer)
    print(report.to_json() if parsed.json else _summary(report))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("quire quantize", "Make an EXL2 model directory from a Hugging Face one.")
    parser.add_argument("source", metavar="MODEL", help="model directory or hub id (org/name)")
    parser.add_argument("out", metavar="OUT", help="directory to create; it appears only when the job is complete")
    parser.add_argument("--json", action="store_true", help="print the full report, matrix by matrix, as JSON")
    add_settings(parser, QuantizeOptions, "quantization", leave_out=("source", "out"))
    add_settings(parser, HubConfig, "hub")
    return parser


def _summary(report: QuantizeReport) -> str:
    calibration = report.calibration
    rows = [
        ("bits/weight", f"{report.bpw:.3f} of the {report.bpw_requested:g} asked for; head {report.head_bpw:.3f}"),
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
    return "\n".join([*lines, "", f"Serve it: quire serve {report.out}"])
