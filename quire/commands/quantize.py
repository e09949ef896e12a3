"""`quire quantize`"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from engine.config import EngineConfig
from engine.errors import ConfigError
from quantize.job import plan_model, quantize_model
from quantize.options import QuantizeOptions
from quantize.planning import SizePlan
from quantize.report import QuantizeReport
from quantize.work_directory import kept_work
from quire.arguments import ArgumentParser, add_settings
from quire.configuration import add_model_options, local_engine, sources_of
from quire.interruption import Interruptible
from quire.progress import show_progress
from quire.quantize_summary import plan_summary, report_summary
from quire.settings import COMMAND_LINE, Resolved, resolve
from quire.terminal import notify
from quire.text_generator import open_text_generator

SETTINGS = ("device", "threads", "ignore_config_keys")
"""Engine settings of the quantizer."""


def run(arguments: Sequence[str]) -> int:
    """Quantize a model, or say what would be chosen, and what came of it."""
    parsed = _parser().parse(arguments)
    resolved = resolve(QuantizeOptions, sources_of(parsed))
    _refuse_empty(resolved)
    options = resolved.config
    engine = local_engine(parsed)
    options = replace(options, source=Path(engine.model), source_name=engine.name)
    writer = None if options.calibration else open_text_generator(_writing(engine))
    try:
        with Interruptible(), show_progress(sys.stderr) as progress:
            if parsed.plan:
                plans = plan_model(options, progress=progress, generator=writer)
            else:
                reports = quantize_model(options, progress=progress, generator=writer)
    except KeyboardInterrupt:
        work = kept_work(options)
        if work is not None:
            notify(f"Interrupted. What is done is kept in {work}: the same command goes on from there.")
        raise
    if parsed.plan:
        print(_as_json(plans) if parsed.json else "\n\n".join(map(plan_summary, plans)))
        notify(f"The measurement is kept in {kept_work(options)}: the same command without --plan goes on from there.")
    else:
        print(_as_json(reports) if parsed.json else "\n\n".join(map(report_summary, reports)))
    return 0


def _refuse_empty(resolved: Resolved[QuantizeOptions]) -> None:
    """Refuse a list that was given and has nothing in it: more likely a slip in a script than meant.

    Raises:
        ConfigError: there is one; the message names it.
    """
    for name in ("calibration", "override"):
        if resolved.origins[name] == COMMAND_LINE and not getattr(resolved.config, name):
            raise ConfigError(f"--{name} is empty. Give it a value, or leave it out.")


def _as_json(results: Sequence[QuantizeReport] | Sequence[SizePlan]) -> str:
    """One object, or where there are several sizes a list of them."""
    found = [asdict(each) for each in results]
    return json.dumps(found[0] if len(found) == 1 else found, indent=2)


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
    parser.add_argument(
        "--plan", action="store_true", help="measure, print what would be chosen, and keep the measurement for the job"
    )
    add_settings(parser, QuantizeOptions, "quantization", leave_out={"source", "source_name", "out", *SETTINGS})
    add_model_options(parser, SETTINGS)
    return parser
