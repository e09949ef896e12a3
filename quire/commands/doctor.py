"""`quire doctor`"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from engine.errors import ConfigError
from quire.arguments import ArgumentParser
from quire.doctor.finding import Finding
from quire.doctor.isolated import run_isolated
from quire.doctor.machine import (
    check_files,
    check_hub_cache,
    check_memory,
    check_port,
    check_processor,
    check_temporary,
)
from quire.doctor.native import check_compiler
from quire.doctor.python_environment import REPAIR, check_imports, check_packages, check_python
from quire.settings import convert
from quire.version import __version__

MARKS = {"ok": "ok", "warning": "WARNING", "problem": "PROBLEM"}


def run(arguments: Sequence[str]) -> int:
    """Look at the installation, the machine and, if one is named, a model; 1 if something will fail."""
    parsed = _parser().parse(arguments)
    port = convert(parsed.port, int, "--port")
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535, not {port}.")
    levels: Counter[str] = Counter()
    shown: list[Finding] = []
    for finding in findings(parsed.host, port, parsed.model):
        levels[finding.level] += 1
        shown.append(finding)
        if not parsed.json:
            print(line(finding), flush=True)
    if parsed.json:
        report = {"version": __version__, "ok": not levels["problem"], "findings": [asdict(each) for each in shown]}
        print(json.dumps(report, indent=2))
    else:
        print(f"\n{_count(levels['problem'], 'problem')}, {_count(levels['warning'], 'warning')}")
    return 1 if levels["problem"] else 0


def findings(host: str, port: int, model: str | None) -> Iterator[Finding]:
    """Everything the doctor looks at, in the order in which one thing needs the other."""
    yield check_python()
    yield check_imports()
    yield from check_packages()
    yield check_files()
    yield from run_isolated("torch", "torch", REPAIR)
    yield check_compiler()
    yield from run_isolated("kernels", "native library", "Build it again: make clean install.")
    yield from run_isolated("cuda", "CUDA library", "Build it again: make cuda.")
    yield check_processor()
    yield check_memory()
    yield check_port(host, port)
    yield check_temporary()
    yield check_hub_cache()
    yield from run_isolated("settings", "settings", REPAIR)
    if model is not None:
        yield from run_isolated("model", "model", "Report this, with the name of the model.", [model])


def line(finding: Finding) -> str:
    """A finding for people; the advice stands on a line of its own."""
    text = f"{MARKS[finding.level]:<8} {finding.subject:<17} {' '.join(finding.fact.split())}"
    return text + (f"\n{'':<26} -> {' '.join(finding.advice.split())}" if finding.advice else "")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "quire doctor",
        "Say what is wrong with this installation, this machine or a model, and what to do. Exit status 1 if "
        "something will fail.",
    )
    parser.add_argument("model", metavar="MODEL", nargs="?", help="model directory to look at as well")
    parser.add_argument("--host", default="127.0.0.1", metavar="TEXT", help="address to try (default: 127.0.0.1)")
    parser.add_argument("--port", default="8000", metavar="N", help="port to try (default: 8000)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
