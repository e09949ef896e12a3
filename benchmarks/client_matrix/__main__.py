"""Every client against the demo model, and a table of what works.

    python -m benchmarks.client_matrix [--only KEY …] [--write]

Installs the clients below build/clients, in the versions pinned in requirements/clients, serves the demo model on a
free port, runs each client's checks and prints what became of them. With --write the results go to
benchmarks/results/clients.json, and those of all clients there to docs/clients.md. Ends with 1 if a check fails, and
with 2 if none does but a client could not be installed.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

from benchmarks.client_matrix.clients import CLIENTS
from benchmarks.client_matrix.environments import Environments
from benchmarks.client_matrix.page import page
from benchmarks.client_matrix.record import load, merged, save
from benchmarks.client_matrix.results import ClientResult, Outcome, all_passed
from benchmarks.client_matrix.running import run_all
from quire.version import __version__

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "clients.md"
RECORD = ROOT / "benchmarks" / "results" / "clients.json"
ENVIRONMENTS = ROOT / "build" / "clients"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.client_matrix",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    keys = [client.key for client in CLIENTS]
    parser.add_argument("--only", nargs="+", choices=keys, default=keys, metavar="KEY", help=", ".join(keys))
    parser.add_argument("--write", action="store_true", help=f"write {RECORD.name} and docs/{PAGE.name}")
    return parser.parse_args()


def show(result: ClientResult) -> None:
    """Print a result as soon as it is there."""
    print(f"{result.client.package} {result.version}: {'all pass' if result.passed else 'FAILS'}", flush=True)
    for check in result.checks:
        reason = f": {check.reason}" if check.outcome is not Outcome.PASSED else ""
        print(f"  {check.outcome:4} {check.capability}: {check.what}{reason}", flush=True)
    if result.trouble:
        print(f"  {result.trouble}", flush=True)


def main() -> int:
    arguments = parse_arguments()
    chosen = [client for client in CLIENTS if client.key in arguments.only]
    results = []
    for result in run_all(chosen, Environments(ENVIRONMENTS)):
        show(result)
        results.append(result)
    if arguments.write:
        machine = f"Quire {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}."
        known = merged(load(RECORD), results)
        save(RECORD, known)
        PAGE.write_text(page(known, machine), encoding="utf-8")
    if all_passed(results):
        return 0
    return 2 if all(result.passed or result.not_installed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
