"""What every figure is held to: copying on the same card, in the same minute."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.card import Card, seconds


@dataclass(frozen=True, slots=True)
class Effort:
    """How long is measured. The default is for a card.

    Attributes:
        rounds: in which all that is compared takes turns.
        calls: of each in one round.
        copy_bytes: read and written by a copy, together.
        rotated_bytes: of matrices that take turns, so that no cache holds them.
    """

    rounds: int = 7
    calls: int = 10
    copy_bytes: int = 2 << 30
    rotated_bytes: int = 512 << 20


LITTLE = Effort(rounds=1, calls=1, copy_bytes=1 << 12, rotated_bytes=1 << 12)
"""Enough to see that everything runs."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Something that is measured.

    Attributes:
        run: does it `calls` times.
        calls: in one run.
    """

    run: Callable[[], object]
    calls: int = 1


def captured(card: Card, calls: Sequence[Callable[[], object]]) -> Timed:
    """All calls in one graph, so that the host's time does not count."""

    def body() -> None:
        for call in calls:
            call()

    return Timed(card.captured(body), len(calls))


def median_seconds(card: Card, effort: Effort, *bodies: Timed) -> list[float]:
    """Seconds for one call of each, median of rounds in which they take turns."""
    times: list[list[float]] = [[] for _ in bodies]
    for _ in range(effort.rounds):
        for body, record in zip(bodies, times, strict=True):
            record.append(seconds(card, body.run, effort.calls) / body.calls)
    return [statistics.median(record) for record in times]


def copying(card: Card, effort: Effort) -> Timed:
    """A copy on the card."""
    source = torch.empty(effort.copy_bytes // 2, dtype=torch.uint8, device=card.device)
    copied = torch.empty_like(source)
    return Timed(lambda: copied.copy_(source))


def copy_bandwidth(card: Card, effort: Effort) -> float:
    """Bytes per second of a copy, reading and writing."""
    return effort.copy_bytes / median_seconds(card, effort, copying(card, effort))[0]


def reading(card: Card, effort: Effort) -> Timed:
    """Reading alone: a sum over half as many bytes as a copy moves."""
    source = torch.ones(effort.copy_bytes // 8, dtype=torch.float32, device=card.device)
    total = torch.empty((), dtype=torch.float32, device=card.device)
    return Timed(lambda: torch.sum(source, dim=0, out=total))
