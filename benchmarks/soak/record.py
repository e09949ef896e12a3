"""What happened in a soak run: samples of each second, gaps between tokens, faults, and everything that was wrong."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Fault:
    """A fault that was done to the engine. Times are seconds of the run.

    Attributes:
        kind: `SIGKILL` or `SIGSTOP`.
        at: when it was done.
        noticed: when `/health` turned false; None before.
        healed: when it was true again; None before.
    """

    kind: str
    at: float
    noticed: float | None = None
    healed: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One second.

    Attributes:
        at: seconds of the run.
        server_bytes: anonymous memory of the server process.
        server_files: its descriptors.
        engine_pid: of the engine process; 0 where there is none.
        engine_bytes: anonymous memory of it.
        engine_files: its descriptors.
        running: sequences in steps.
        waiting: sequences that wait.
        cache_used: share of the KV cache, 0 to 1.
        generated: tokens since the start of the server.
        restarts: of the engine.
        preemptions: since the start.
    """

    at: float
    server_bytes: int
    server_files: int
    engine_pid: int
    engine_bytes: int
    engine_files: int
    running: int
    waiting: int
    cache_used: float
    generated: int
    restarts: int
    preemptions: int


@dataclass(frozen=True, slots=True)
class Idle:
    """Descriptors of both processes while nothing is asked."""

    server_files: int
    engine_files: int


@dataclass(slots=True)
class Record:
    """Everything a run leaves behind.

    Attributes:
        samples: one per second.
        gaps: of streams with one choice: (second of the run, seconds since the token before).
        outcomes: how many requests came to what.
        answers: compared answers, by kind of question.
        wrong: what must not happen, in words.
        faults: in order.
        idle: before the load and after it.
    """

    samples: list[Sample] = field(default_factory=list)
    gaps: list[tuple[float, float]] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    idle: list[Idle] = field(default_factory=list)
    _zero: float = 0.0

    def begin(self) -> None:
        """Count seconds from now."""
        self._zero = time.monotonic()

    def now(self) -> float:
        """Seconds of the run."""
        return self.second(time.monotonic())

    def second(self, moment: float) -> float:
        """Seconds of the run at a moment of `time.monotonic`."""
        return moment - self._zero

    def excuses(self, started: float, ended: float) -> bool:
        """Whether an engine was broken at some time between two moments of `time.monotonic`."""
        first, last = self.second(started), self.second(ended)
        return any(fault.at <= last and (fault.healed is None or first <= fault.healed) for fault in self.faults)
