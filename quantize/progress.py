"""How long-running work tells the caller how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the stages of a job, one after the other. The command line draws a bar and an ETA from it."""

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """A new stage begins that consists of `total` units of equal work; the one before it is done.

        `done` units were done by an earlier job.
        """
        ...

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more units of the current stage are done; `note` says what was just finished."""
        ...
