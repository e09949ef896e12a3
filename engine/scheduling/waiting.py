"""Sequences that wait for their turn, and why they wait."""

from __future__ import annotations

import bisect
import enum
from collections.abc import Iterator

from engine.scheduling.sequence import Sequence


class WaitReason(enum.StrEnum):
    """Why the first in the queue, and with it all behind it, was not admitted; or why a choice is not queued yet."""

    CACHE = "cache"  # too few free blocks of the KV cache
    BATCH = "batch"  # as many sequences run as may
    BUDGET = "budget"  # the step's tokens are spent on others
    PROMPT = "prompt"  # the first choice of the request computes the prompt for this one


class WaitingQueue:
    """Sequences by rank: the more important first, among equals the earlier, whenever they were put in."""

    def __init__(self) -> None:
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    @property
    def first(self) -> Sequence | None:
        """The one whose turn it is next."""
        return self._sequences[0] if self._sequences else None

    def add(self, sequence: Sequence) -> None:
        """Put a sequence in its place."""
        bisect.insort(self._sequences, sequence, key=_rank)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it stands."""
        self._sequences.remove(sequence)


def _rank(sequence: Sequence) -> tuple[int, int, int]:
    return sequence.rank
