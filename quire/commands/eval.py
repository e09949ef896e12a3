"""`quire eval`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import setting
from engine.errors import ConfigError
from engine.ops.select import select_backend
from quantize.evaluate import EvalReport, evaluate
from quantize.options import MOST
from quire.arguments import ArgumentParser, add_settings
from quire.configuration import add_model_options, local_engine, sources_of
from quire.hub import find_model
from quire.progress import show_progress
from quire.settings import resolve

SETTINGS = ("device", "kernels", "threads", "ignore_config_keys")
"""Engine settings that make a difference here; the others are about serving."""


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """What to measure on.

    Raises:
        ConfigError: a value is missing or out of range.
    """

    text: Path | None = setting(None, "UTF-8 text to measure on (required)")
    reference: str = setting("", "model to compare with, usually the one MODEL was quantized from")
    length: int = setting(512, "tokens per window, at most the model's context length")
    rows: int | None = setting(None, "windows to take from the beginning of the text; default is all there are")

    def __post_init__(self) -> None:
        for name, least in (("length", 2), ("rows", 1)):
            value = getattr(self, name)
            if value is not None and not least <= value <= MOST:
                raise ConfigError(f"{name} must be between {least} and {MOST}, not {value}.")


def run(arguments: Sequence[str]) -> int:
    """Measure a model on a text."""
    parsed = _parser().parse(arguments)
    options = resolve(EvalOptions, sources_of(parsed)).config
    if options.text is None:
        raise ConfigError("Name a text to measure on with --text FILE.")
    engine = local_engine(parsed)
    with show_progress(sys.stderr) as progress:
        report = evaluate(
            Path(engine.model),
            options.text,
            find_model(options.reference).directory if options.reference else None,
            backend=select_backend(engine.device, engine.kernels, engine.threads),
            progress=progress,
            length=options.length,
            rows=options.rows,
            ignore_config_keys=engine.ignore_config_keys,
        )
    print(report.to_json() if parsed.json else _summary(report))
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire eval", "Measure a model's perplexity on a text, and its divergence from a reference model."
    )
    parser.add_argument("model", metavar="MODEL", help="model directory or hub id (org/name)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_settings(parser, EvalOptions, "evaluation")
    add_model_options(parser, SETTINGS)
    return parser


def _summary(report: EvalReport) -> str:
    length = str(report.length)
    if report.length < report.length_requested:
        length += f", the context, instead of {report.length_requested}"
    bits = f"{report.bits_per_weight:.3f} bits per weight, head {report.head_bits_per_weight:.3f}"
    rows = [
        ("format", f"{report.weight_format}, {bits}"),
        ("text", f"{report.tokens} tokens in {report.windows} windows of {length} ({report.text})"),
        ("perplexity", f"{report.perplexity:.4f}"),
    ]
    if report.reference_perplexity is not None:
        rows.append(("reference", f"{report.reference_perplexity:.4f} ({report.reference})"))
    if report.kl_mean is not None and report.kl_p99 is not None:
        error = "" if report.kl_standard_error is None else f" ± {report.kl_standard_error:.5f}"
        rows.append(("KL mean", f"{report.kl_mean:.5f}{error} nats"))
        rows.append(("KL p99", f"{report.kl_p99:.5f} nats"))
    if report.top1_agreement is not None:
        rows.append(("top-1", f"{report.top1_agreement:.2%} agree with the reference"))
    rows.append(("kernels", report.kernels))
    return "\n".join([report.model, *(f"  {name:<11} {value}" for name, value in rows)])
