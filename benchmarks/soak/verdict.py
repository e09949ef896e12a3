"""Whether a soak run was passed: each demand with what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from benchmarks.soak.record import Record, Sample

SERVER_GROWTH_BYTES = 8 * 1024 * 1024
"""Most memory the server may gain in the last two thirds of the run, by a straight line through what was measured; it
moves up and down by half of that."""

ENGINE_GROWTH_BYTES = 2 * 1024 * 1024
"""The same for the engine that lived longest, in the last two thirds of its life: in its first minutes the memory of
an engine still approaches what it will need."""

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
        lasting: whether only a run of many minutes can show it.
    """

    name: str
    met: bool
    measured: str
    timed: bool = False
    lasting: bool = False


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed; 0 of none."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else 0.0


def growth(curve: Curve) -> float:
    """What a line through the last two thirds of a curve of (second, value) gains over them, by least squares."""
    if not curve:
        return 0.0
    first, last = curve[0][0], curve[-1][0]
    late = [(x, y) for x, y in curve if x >= first + (last - first) / 3]
    middle = sum(x for x, _ in late) / len(late)
    below = sum((x - middle) ** 2 for x, _ in late)
    return sum((x - middle) * y for x, y in late) / below * (last - late[0][0]) if below else 0.0


def server_memory(samples: Sequence[Sample]) -> Curve:
    """Memory of the server process."""
    return [(each.at, each.server_bytes) for each in samples]


def engine_memory(samples: Sequence[Sample]) -> Curve:
    """Memory of the engine process that lived longest."""
    lives: list[Curve] = []
    for pid, group in groupby(samples, key=lambda each: each.engine_pid):
        if pid:
            lives.append([(each.at, each.engine_bytes) for each in group])
    return max(lives, key=len, default=[])


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
    for process, span, curve, limit in (
        ("server", "the run", server_memory(samples), SERVER_GROWTH_BYTES),
        ("longest engine", "its life", engine_memory(samples), ENGINE_GROWTH_BYTES),
    ):
        gained = growth(curve)
        name = f"the {process}'s memory grows by at most {limit >> 20} MiB in the last two thirds of {span}"
        found.append(Demand(name, gained <= limit, f"{gained / 2**20:+.2f} MiB", lasting=True))
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
