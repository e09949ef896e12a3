"""Build, check and measure the CUDA kernels on the card in this machine: `python -m benchmarks.gpu`, or `make gpu`.

Every stage is a process of its own with a time limit, so that one that fails, or loses the device, does not take the
others with it; together they take no longer than `--minutes`. What they say goes to
benchmarks/results/gpu-DATE-DEVICE.json and, as a table, beside it, after each stage.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.gpu.model_speed import PLANS
from benchmarks.gpu.results import Results
from benchmarks.gpu.stages import Stage, run_stages

RESULTS = Path(__file__).resolve().parents[1] / "results"
CHECKED = ("sweep", "sampling", "invariance")
"""Modules that compute-sanitizer runs, with small sizes."""

RECORDING = ("invariance",)
"""Those of them that record graphs, in which torch cannot do without its own handling of memory."""

EACH_TENSOR_BY_ITSELF = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
"""Otherwise torch cuts tensors out of large pieces, and memcheck sees nothing that stays within one of these."""


SANITIZER = "/usr/local/cuda/bin/compute-sanitizer"
"""Where it is, if not on the path."""

Start = Callable[..., tuple[str, ...]]


def in_python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that starts a module of this repository."""
    return sys.executable, "-m", module, *arguments


def stages(start: Start = in_python) -> list[Stage]:
    """All of them, in the order in which one is worth more if the one before passed; what is slow comes last.

    Args:
        start: gives the command for a module and its arguments.
    """
    sanitizer = shutil.which("compute-sanitizer") or SANITIZER

    def rows(name: str, module: str, seconds: float, *arguments: str) -> Stage:
        return Stage(name, start(f"benchmarks.gpu.{module}", *arguments), seconds, gives_rows=True)

    def checked(tool: str, module: str) -> Stage:
        program = start(f"benchmarks.gpu.{module}", "--small")
        command = (sanitizer, "--error-exitcode", "9", "--tool", tool, *program)
        alone = EACH_TENSOR_BY_ITSELF if tool == "memcheck" and module not in RECORDING else {}
        return Stage(f"{tool} of {module}", command, 150, needs=sanitizer, environment=alone)

    return [
        Stage("build for this card", start("cuda_ext.build", "--archs", "native"), 240),
        Stage("no spills", start("cuda_ext.report", "--check"), 30),
        rows("fragment maps", "fragments", 60),
        rows("ops against their references", "sweep", 120),
        rows("sampling", "sampling", 60),
        rows("the same bits in any company", "invariance", 60),
        rows("memory of products", "product_memory", 30),
        rows("speed of ops", "speed", 60),
        rows("speed of attention", "attention_speed", 60),
        rows("speed of EXL2 products", "exl2_speed", 120),
        rows("ways of EXL2 products", "exl2_ways", 90),
        rows("speed of sampling", "sampling_speed", 60),
        *(rows(f"{model} model", "model_speed", 100, model) for model in PLANS),
        *(checked(tool, module) for module in CHECKED for tool in ("memcheck", "racecheck")),
    ]


def card_name() -> tuple[str, str]:
    """The first card as nvidia-smi names it, and the version of its driver; empty where there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "", ""
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    if answer.returncode:
        return "", ""
    name, _, driver = answer.stdout.partition("\n")[0].partition(",")
    return name.strip(), driver.strip()


def main(arguments: Sequence[str] | None = None, start: Start = in_python) -> int:
    """The command; 1 if there is no card, or a stage failed or was left out.

    Args:
        arguments: None for those of the process.
        start: as of `stages`.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything; what does not fit is left out")
    names = [stage.name for stage in stages(start)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="STAGE", help=f"some of: {', '.join(names)}")
    options = parser.parse_args(arguments)
    device, driver = card_name()
    if not device:
        print("nvidia-smi names no card: nothing to measure here.", file=sys.stderr)
        return 1
    results = Results(options.results, device, driver)
    wanted = [stage for stage in stages(start) if not options.only or stage.name in options.only]
    passed = True
    with tempfile.TemporaryDirectory() as folder:
        for outcome in run_stages(wanted, options.minutes, Path(folder)):
            results.add(outcome)
            passed &= outcome.passed
            print(f"{outcome.verdict:8s} {outcome.stage} ({outcome.seconds} s)", flush=True)
            if not outcome.passed:
                print(outcome.said, flush=True)
    print(results.table())
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
