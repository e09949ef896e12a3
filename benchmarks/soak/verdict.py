"""Whether a soak run was passed: each demand with what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.soak.record import Record, Sample

WARM_UP_SECONDS = 30.0
"""After the start of each engine, before its memory counts."""

GROWTH_BYTES = 8 * 1024 * 1024
"""Most memory a process may gain in the last two thirds of the run, by a straight line through what was measured."""

GAP_RATIO = 1.5
"""How much larger the 99th percentile of the gaps may be in the last third of the run than in the first."""

Curve = Sequence[tuple[float, float]]
"""Values over seconds."""


@dataclass(frozen=True, slots=True)
class Demand:
    """One thing a run has to show.

    Attributes:
        name: what.
        met: whether it did.
        measured: in words.
        timed: whether it hangs on the speed of the machine, which others may use at the same time.
    """

    name: str
    met: bool
    measured: str
    timed: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


def growth(segments: Sequence[Curve]) -> float:
    """Slope of the lines of equal slope that fit several runs of (second, value) best, by least squares."""
    above = below = 0.0
    for segment in segments:
        middle = sum(x for x, _ in segment) / len(segment) if segment else 0.0
        above += sum((x - middle) * y for x, y in segment)
        below += sum((x - middle) ** 2 for x, _ in segment)
    return above / below if below else 0.0


def server_memory(samples: Sequence[Sample]) -> list[Curve]:
    """Memory of the server process in the last two thirds: the first has the first bursts and the first faults."""
    end = samples[-1].at if samples else 0.0
    return [[(each.at, each.server_bytes) for each in samples if each.at >= end / 3]]


def engine_memory(samples: Sequence[Sample]) -> list[Curve]:
    """Memory of each engine process in turn, once it is warm: its cache is touched and its pools are full."""
    segments: list[Curve] = []
    for pid, group in groupby(samples, key=lambda each: each.engine_pid):
        own = list(group)
        if pid:
            segments.append([(each.at, each.engine_bytes) for each in own if each.at - own[0].at >= WARM_UP_SECONDS])
    return segments


def demands(record: Record) -> list[Demand]:
    """Everything a run has to show."""
    samples = record.samples
    seconds = samples[-1].at - samples[0].at if samples else 0.0
    compared = sum(record.answers.values())
    found = [
        Demand(
            "no wrong answer, and no error but those of the faults",
            not record.wrong and compared > 0,
            f"{len(record.wrong)} wrong, {compared} compared",
        )
    ]
    for name, segments in (("server", server_memory(samples)), ("engine", engine_memory(samples))):
        gained = growth(segments) * seconds * 2 / 3
        found.append(
            Demand(
                f"the {name}'s memory grows by at most {GROWTH_BYTES >> 20} MiB in the last two thirds of the run",
                gained <= GROWTH_BYTES,
                f"{gained / 2**20:+.2f} MiB",
            )
        )
    before, after = record.idle
    found.append(Demand("as many descriptors after the run as before it", after == before, f"{before}, {after}"))
    healed = [fault for fault in record.faults if fault.healed is not None]
    restarts = samples[-1].restarts if samples else 0
    found.append(
        Demand(
            "every fault was healed, and there was no other restart",
            len(healed) == len(record.faults) == restarts,
            f"{len(record.faults)} faults, {len(healed)} healed, {restarts} restarts",
        )
    )
    first, last = _outer_thirds(record, seconds)
    found.append(
        Demand(
            f"the 99th percentile of the gaps grows by at most {GAP_RATIO:g} times from the first third to the last",
            last <= GAP_RATIO * first,
            f"{first * 1e3:.1f} ms, {last * 1e3:.1f} ms",
            timed=True,
        )
    )
    return found


def _outer_thirds(record: Record, seconds: float) -> tuple[float, float]:
    """99th percentile of the gaps in the first and the last third of the run."""
    first = [gap for at, gap in record.gaps if at < seconds / 3]
    last = [gap for at, gap in record.gaps if at >= 2 * seconds / 3]
    return percentile(first, 0.99), percentile(last, 0.99)
