"""Build, check and measure the CUDA kernels on the card in this machine: `python -m benchmarks.gpu`, or `make gpu`.

Every stage is a process of its own with a time limit, so that one that fails, or loses the device, does not take the
others with it; together they take no longer than `--minutes`. What they say goes to
benchmarks/results/gpu-DATE-DEVICE.json and, as a table, beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.gpu.model_speed import PLANS
from benchmarks.machine import machine

RESULTS = Path(__file__).resolve().parents[1] / "results"
LONGEST_OUTPUT = 4000
CHECKED = ("sweep", "sampling", "invariance")
"""Modules that compute-sanitizer runs, with small sizes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run.

    Attributes:
        name: for people.
        command: what is started; a module of this package writes its rows to the file named last.
        seconds: it may take.
        gives_rows: whether it writes a file of rows.
    """

    name: str
    command: tuple[str, ...]
    seconds: float
    gives_rows: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a stage went.

    Attributes:
        stage: its name.
        passed: whether it ended well.
        seconds: it took.
        said: the end of what it printed.
        rows: what it measured or checked.
    """

    stage: str
    passed: bool
    seconds: float
    said: str
    rows: list[dict[str, object]]

    @property
    def verdict(self) -> str:
        """For people."""
        return "passed" if self.passed else "FAILED"


def stages() -> list[Stage]:
    """All of them, in the order in which one is worth more if the one before passed; what is slow comes last."""
    python = (sys.executable, "-m")
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"

    def rows(name: str, module: str, seconds: float, *arguments: str) -> Stage:
        return Stage(name, (*python, f"benchmarks.gpu.{module}", *arguments), seconds, gives_rows=True)

    def checked(tool: str, module: str) -> Stage:
        program = (*python, f"benchmarks.gpu.{module}", "--small")
        command = (sanitizer, "--error-exitcode", "9", "--tool", tool, *program)
        return Stage(f"{tool} of {module}", command, 90)

    return [
        Stage("build for this card", (*python, "cuda_ext.build", "--archs", "native"), 240),
        Stage("no spills", (*python, "cuda_ext.report", "--check"), 30),
        rows("fragment maps", "fragments", 60),
        rows("ops against their references", "sweep", 90),
        rows("sampling", "sampling", 60),
        rows("the same bits in any company", "invariance", 60),
        rows("speed of ops", "speed", 60),
        rows("speed of attention", "attention_speed", 60),
        rows("speed of EXL2 products", "exl2_speed", 120),
        rows("ways of EXL2 products", "exl2_ways", 90),
        *(rows(f"{model} model", "model_speed", 100, model) for model in PLANS),
        *(checked(tool, module) for module in CHECKED for tool in ("memcheck", "racecheck")),
    ]


def run_stages(wanted: Sequence[Stage], minutes: float) -> list[Outcome]:
    """Run stages one after the other, whatever becomes of each, until the time is over; tell of each as it ends."""
    deadline = time.monotonic() + 60 * minutes
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for stage in wanted:
            left = deadline - time.monotonic()
            within = replace(stage, seconds=max(min(stage.seconds, left), 0.0))
            outcomes.append(run_stage(within, Path(folder)))
            print(f"{outcomes[-1].verdict:7s} {stage.name} ({outcomes[-1].seconds} s)", flush=True)
            if not outcomes[-1].passed:
                print(outcomes[-1].said, flush=True)
    return outcomes


def run_stage(stage: Stage, folder: Path) -> Outcome:
    """Run one stage to its end, or until its time is over."""
    file = folder / "rows.json"
    file.unlink(missing_ok=True)
    if not stage.seconds:
        return Outcome(stage.name, passed=False, seconds=0.0, said="there was no time left for it", rows=[])
    command = [*stage.command, "--json", str(file)] if stage.gives_rows else list(stage.command)
    started = time.monotonic()
    try:
        result = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=stage.seconds, check=False
        )
        passed, said = result.returncode == 0, result.stdout
    except subprocess.TimeoutExpired as late:
        partly = late.stdout or b""
        text = partly.decode(errors="replace") if isinstance(partly, bytes) else partly
        passed, said = False, f"{text}\nnot done after {stage.seconds:.0f} s"
    except OSError as missing:
        passed, said = False, str(missing)
    rows = json.loads(file.read_text()) if file.is_file() else []
    return Outcome(stage.name, passed, round(time.monotonic() - started, 1), said[-LONGEST_OUTPUT:], rows)


def table(device: str, outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown: stages, figures that have a target, all other figures."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    lines = [f"# CUDA kernels on {device}", "", "| stage | | seconds |", "|---|---|--:|"]
    lines += [f"| {each.stage} | {each.verdict} | {each.seconds} |" for each in outcomes]
    lines += ["", "| target | measured | unit | wanted | |", "|---|--:|---|--:|---|"]
    for row in rows:
        if row.get("target") is not None:
            wanted = f"{'≥' if row.get('at_least') else '≤'} {row['target']:g}"
            lines.append(f"{_measured(row)} {wanted} | {'met' if row.get('met') else 'MISSED'} |")
    lines += ["", "| what | measured | unit |", "|---|--:|---|"]
    lines += [_measured(row) for row in rows if row.get("target") is None]
    return "\n".join(lines) + "\n"


def _measured(row: Mapping[str, object]) -> str:
    return f"| {row['name']} | {row['value']:.4g} | {row['unit']} |"


def device_name() -> str:
    """The first card, as nvidia-smi names it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout.partition("\n")[0].strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; 1 if there is no card or a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; what does not fit is left out")
    names = [stage.name for stage in stages()]
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=f"some of: {', '.join(names)}")
    options = parser.parse_args(arguments)
    device = device_name()
    if not device:
        print("nvidia-smi names no card: nothing to measure here.", file=sys.stderr)
        return 1
    wanted = [stage for stage in stages() if not options.only or stage.name in options.only]
    outcomes = run_stages(wanted, options.minutes)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    stem = options.results / f"gpu-{date}-{re.sub(r'[^a-z0-9]+', '-', device.lower()).strip('-')}"
    content = {"date": date, "device": device, "machine": machine(), "stages": [asdict(each) for each in outcomes]}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    stem.with_suffix(".md").write_text(table(device, outcomes))
    print(table(device, outcomes))
    return 0 if all(each.passed for each in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
