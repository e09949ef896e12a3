"""Minutes of mixed load on the demo model, with faults, and a verdict.

    python -m benchmarks.soak [--minutes 30] [--clients 10] [--fault-every 90] [--seed 1] [--results DIRECTORY]

Streams and whole answers, chats and completions, shared prefixes, long prompts, several choices, log-probabilities and
stop strings, each compared with what it is answered alone; beside them clients that break off, do not read, ask
nonsense or come all at once; and, in the first half, an engine that is killed or stopped. Writes soak-DATE.json and
soak-DATE.svg; ends with 1 if a demand is not met.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.soak.report import verdict_text, write
from benchmarks.soak.run import Plan, run
from benchmarks.soak.verdict import Demand, demands

RESULTS = Path(__file__).resolve().parents[1] / "results"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="of load (default: 30)")
    parser.add_argument("--clients", type=int, default=10, help="that ask at the same time (default: 10)")
    parser.add_argument(
        "--fault-every", type=float, default=90.0, help="seconds between faults in the first half, 0 for none"
    )
    parser.add_argument("--seed", type=int, default=1, help="of all chances (default: 1)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where to write (default: benchmarks/results)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    plan = Plan(
        seconds=60 * arguments.minutes,
        clients=arguments.clients,
        fault_seconds=arguments.fault_every,
        seed=arguments.seed,
    )
    record, code, log = run(plan)
    clean = code == 0 and "Traceback" not in log
    shown = [*demands(record), Demand("the server ends with 0 and has logged no traceback", clean, f"exit code {code}")]
    print(verdict_text(record, shown))
    for path in write(arguments.results, record, plan, shown):
        print(path)
    if not clean:
        print(log, file=sys.stderr)
    return 0 if all(demand.met for demand in shown) else 1


if __name__ == "__main__":
    sys.exit(main())
