"""Memory of the engine process: while it loads, with its first requests, and after the hardest ones.

    python -m benchmarks.bench_memory [MODEL] [--threads N] [--rounds N]

Without MODEL a random one of 1.1 billion parameters is written to a temporary folder first (0.7 GB). Measured is the
process's anonymous memory (RssAnon: what no file backs), every few milliseconds from outside, above that of an engine
process that has imported everything and loaded nothing. Linux only.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.random_exl2_model import RandomModel, write_random_model

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_SECONDS = 0.01
MIB = 2**20


@dataclass(frozen=True, slots=True)
class MemoryRun:
    """What was measured, in bytes and seconds.

    Attributes:
        weights: as kept in memory.
        cache: of keys and values.
        empty: anonymous memory before loading.
        peak: most until the first requests are answered.
        loaded: after loading and warming up.
        held: after each round of hard requests.
        load_seconds: from the settings to a warm engine.
    """

    weights: int
    cache: int
    empty: int
    peak: int
    loaded: int
    held: tuple[int, ...]
    load_seconds: float

    @property
    def ratio(self) -> float:
        """Peak above an empty engine, as a multiple of weights and cache."""
        return (self.peak - self.empty) / (self.weights + self.cache)


class Phase(NamedTuple):
    """Anonymous memory in bytes at the end of a phase, the most during it, and what the process tells."""

    now: int
    peak: int
    facts: dict[str, float]


class AnonymousMemory:
    """Watches a process from outside.

    Attributes:
        peak: most anonymous memory seen since the last reset, in bytes.
    """

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._ended = threading.Event()
        self.peak = 0

    def now(self) -> int:
        """Anonymous memory at this moment; 0 once the process has ended."""
        try:
            found = re.search(r"RssAnon:\s+(\d+) kB", self._status.read_text())
        except OSError:
            return 0
        return int(found[1]) * 1024 if found else 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keep `peak` up to date meanwhile."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        yield
        self._ended.set()
        thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, self.now())


def measure(model: Path, threads: int = 0, rounds: int = 0) -> MemoryRun:
    """Load a model in a process of its own, ask it things, and watch its memory.

    Args:
        model: directory.
        threads: of the kernels; 0 as the engine chooses.
        rounds: of requests with the longest prompts, the most choices and every kind of sampling at once.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.memory_child", str(model), str(threads), str(rounds)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = AnonymousMemory(process.pid)
    with process, memory.watched():
        empty, loaded, first, *hard = [_next_phase(process, memory) for _ in range(3 + rounds)]
    return MemoryRun(
        weights=int(loaded.facts["weights"]),
        cache=int(loaded.facts["cache"]),
        empty=empty.now,
        peak=max(loaded.peak, first.peak),
        loaded=loaded.now,
        held=tuple(each.now for each in hard),
        load_seconds=loaded.facts["seconds"],
    )


def _next_phase(process: subprocess.Popen[str], memory: AnonymousMemory) -> Phase:
    """Wait for the end of a phase."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the engine process has no pipes")
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("the engine process ended before it was done")
    now = memory.now()
    phase = Phase(now, max(memory.peak, now), json.loads(line))
    memory.peak = 0
    process.stdin.write("\n")
    process.stdin.flush()
    return phase


def report(run: MemoryRun) -> str:
    """The run for people."""
    rows = [
        ("weights as kept", run.weights),
        ("KV cache", run.cache),
        ("empty engine", run.empty),
        ("peak through load and first requests", run.peak),
        ("after loading", run.loaded),
        *((f"after hard requests, round {index}", held) for index, held in enumerate(run.held, 1)),
    ]
    lines = [f"{name:<38}{size / MIB:9.1f} MiB" for name, size in rows]
    lines.append(f"{'peak / (weights + cache)':<38}{run.ratio:9.3f}  (above an empty engine)")
    lines.append(f"{'load and warm-up':<38}{run.load_seconds:9.1f} s")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, help="model directory (default: a random one)")
    parser.add_argument("--threads", type=int, default=0, help="threads of the kernels; 0: as the engine chooses")
    parser.add_argument("--rounds", type=int, default=0, help="rounds of the hardest requests (default: none)")
    parser.add_argument("--json", action="store_true", help="print bytes and seconds as JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model
        if model is None:
            model = Path(folder) / "random"
            write_random_model(model, RandomModel())
        run = measure(model, arguments.threads, arguments.rounds)
    print(json.dumps(asdict(run), indent=2) if arguments.json else report(run))


if __name__ == "__main__":
    main()
