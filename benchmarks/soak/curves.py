"""A run's samples and gaps as curves of a few hundred points, for the report and the plot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.soak.record import Record, Sample
from benchmarks.soak.verdict import percentile

MAX_POINTS = 300
MIN_SECONDS = 3
"""Shortest stretch: long enough that a busy machine takes a sample in each."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves over the same stretches of time; None where nothing was measured.

    Attributes:
        seconds: middle of each stretch, in seconds of the run.
        server_mib: anonymous memory of the server process.
        engine_mib: of the engine process.
        server_files: most descriptors of the server process.
        engine_files: of the engine process.
        tokens_per_second: generated.
        gap_p50_ms: median gap between tokens of a stream.
        gap_p99_ms: 99th percentile.
        cache_used: share of the KV cache in use, 0 to 1.
        running: sequences in steps.
        waiting: sequences that wait.
    """

    seconds: list[float]
    server_mib: list[float | None]
    engine_mib: list[float | None]
    server_files: list[float | None]
    engine_files: list[float | None]
    tokens_per_second: list[float | None]
    gap_p50_ms: list[float | None]
    gap_p99_ms: list[float | None]
    cache_used: list[float | None]
    running: list[float | None]
    waiting: list[float | None]


def curves(record: Record) -> Curves:
    """Summarize a run in at most `MAX_POINTS` stretches of some seconds each."""
    end = record.samples[-1].at if record.samples else 0.0
    width = max(MIN_SECONDS, math.ceil(end / MAX_POINTS))
    count = int(end // width) + 1
    buckets: list[list[Sample]] = [[] for _ in range(count)]
    for sample in record.samples:
        buckets[int(sample.at // width)].append(sample)
    gaps: list[list[float]] = [[] for _ in range(count)]
    for at, gap in record.gaps:
        if at < count * width:
            gaps[int(at // width)].append(gap)
    rates = _rates(record.samples)

    def means(value: Callable[[Sample], float | None], digits: int = 2) -> list[float | None]:
        return [_mean([value(sample) for sample in bucket], digits) for bucket in buckets]

    return Curves(
        seconds=[(index + 0.5) * width for index in range(count)],
        server_mib=means(lambda each: each.server_bytes / 2**20),
        engine_mib=means(lambda each: each.engine_bytes / 2**20 if each.engine_pid else None),
        server_files=[max((each.server_files for each in bucket), default=None) for bucket in buckets],
        engine_files=[
            max((each.engine_files for each in bucket if each.engine_pid), default=None) for bucket in buckets
        ],
        tokens_per_second=means(lambda each: rates.get(each.at), 1),
        gap_p50_ms=[round(percentile(each, 0.5) * 1e3, 2) if each else None for each in gaps],
        gap_p99_ms=[round(percentile(each, 0.99) * 1e3, 2) if each else None for each in gaps],
        cache_used=means(lambda each: each.cache_used, 3),
        running=means(lambda each: each.running),
        waiting=means(lambda each: each.waiting),
    )


def _rates(samples: Sequence[Sample]) -> dict[float, float]:
    """Tokens per second up to each sample but the first, by its time."""
    return {new.at: max(0, new.generated - old.generated) / (new.at - old.at) for old, new in pairwise(samples)}


def _mean(values: Sequence[float | None], digits: int) -> float | None:
    known = [value for value in values if value is not None]
    return round(fmean(known), digits) if known else None
