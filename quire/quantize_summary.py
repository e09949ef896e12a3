"""What `quire quantize` says in the end, in a few lines."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from quantize.planning import SizePlan
from quantize.report import QuantizeReport
from quantize.report_files import PAGE_FILE


def report_summary(report: QuantizeReport) -> str:
    """What came of a job."""
    calibration = report.calibration
    mean_error = sum(each.error for each in report.matrices) / len(report.matrices)
    rows = [
        ("bits/weight", _sizes(report)),
        ("weights", f"{report.weight_bytes / 2**20:.1f} MiB in {len(report.matrices)} quantized matrices"),
        ("calibration", f"{calibration['rows']} rows of {calibration['length']} tokens, {calibration['dataset']}"),
        ("mean error", f"{mean_error:.4f} of a matrix's output"),
    ]
    if report.check is not None:
        figures = report.check.figures
        rows.append(("perplexity", f"{figures.perplexity:.4f}; source {figures.reference_perplexity:.4f}"))
        rows.append(("KL", f"{figures.kl_mean:.5f} nats; {figures.top1_agreement:.1%} likeliest tokens agree"))
    rows.append(("time", f"{sum(report.seconds.values()):.0f} s"))
    rows.append(("report", f"{report.out}/{PAGE_FILE}"))
    lines = [f"{report.source} -> {report.out}", *_table(rows), *_warnings(report.warnings)]
    return "\n".join([*lines, "", f"Serve it: quire serve {shlex.quote(report.out)}"])


def plan_summary(plan: SizePlan) -> str:
    """What a job would choose."""
    rows = [
        ("bits/weight", _sizes(plan)),
        ("possible", f"{plan.range[0]:.3f} to {plan.range[1]:.3f}"),
        ("weights", f"{plan.weight_bytes / 2**20:.1f} MiB"),
        ("damage", f"{plan.damage:.5f}, the expected KL divergence in nats with the default recipe"),
    ]
    matrices = [
        (each.name, f"{each.bits_per_weight:.3f}  " + " ".join(f"{bits}b:{rows}" for bits, rows in each.rows.items()))
        for each in plan.matrices
    ]
    head = f"Plan for {plan.bpw_requested:g} bits"
    return "\n".join([head, *_table(rows), *_warnings(plan.warnings), "", *_table(matrices)])


def _sizes(result: QuantizeReport | SizePlan) -> str:
    asked = f"{result.counted_bpw:.3f} of the {result.bpw_requested:g} asked for"
    if result.counted_bpw != result.bpw:  # the head counts
        return f"{asked}, head included; layers {result.bpw:.3f}, head {result.head_bpw:.3f}"
    return f"{asked}; head {result.head_bpw:.3f}"


def _table(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max(12, *(len(name) for name, _ in rows))
    return [f"  {name:<{width}} {value}" for name, value in rows]


def _warnings(warnings: Sequence[str]) -> list[str]:
    return [f"  warning      {warning}" for warning in warnings]
