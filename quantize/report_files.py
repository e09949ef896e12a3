"""The report of a job in the model's directory: for programs, for people, and for the model's page on a hub."""

from __future__ import annotations

from pathlib import Path

from quantize.report import QuantizeReport
from quantize.report_page import report_page

REPORT_FILE = "quantization_report.json"
PAGE_FILE = "quantization_report.html"
CARD_FILE = "README.md"


def write_report(folder: Path, report: QuantizeReport) -> None:
    """Write all three; a model card that came with the source gets a section more.

    Raises:
        OSError: the disk does not take it.
    """
    (folder / REPORT_FILE).write_text(report.to_json() + "\n", encoding="utf-8")
    (folder / PAGE_FILE).write_text(report_page(report), encoding="utf-8")
    card = folder / CARD_FILE
    before = card.read_text(encoding="utf-8", errors="replace").rstrip() + "\n\n" if card.exists() else ""
    card.write_text(before + model_card(report), encoding="utf-8")


def model_card(report: QuantizeReport) -> str:
    """A section of a model card, in Markdown."""
    calibration = report.calibration
    rows = [
        ("Format", "EXL2"),
        ("Source", report.source),
        ("Bits per weight", f"{report.bpw:.3f}, head {report.head_bpw:.3f}"),
        ("Size of the weights", f"{report.weight_bytes / 2**20:.1f} MiB"),
        ("Calibration", f"{calibration['rows']} rows of {calibration['length']} tokens, {calibration['dataset']}"),
        ("Recipe", f"{report.recipe}, seed {report.seed}"),
    ]
    check = report.check
    if check is not None:
        figures = check.figures
        text = "text kept back from calibration" if check.held_out else "calibration text"
        rows.append(("Measured on", f"{figures.tokens} tokens of {text}"))
        rows.append(("Perplexity", f"{figures.perplexity:.4f}, of the source {figures.reference_perplexity:.4f}"))
        rows.append(("KL divergence from the source", f"{figures.kl_mean:.5f} nats"))
        rows.append(("Same likeliest token as the source", f"{figures.top1_agreement:.1%}"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return (
        f"## Quantization\n\n| | |\n|---|---|\n{table}\n\n"
        f"Made with Quire {report.versions['quire']}; [the full report]({PAGE_FILE}).\n"
    )
