"""The seam between the step loop and whatever computes a step."""

from __future__ import annotations

from typing import Protocol, TypeVar

from engine.scheduling.batch import SampledToken, ScheduledBatch

HandleT = TypeVar("HandleT")


class Runner(Protocol[HandleT]):
    """Computes steps. `engine/execution/model_runner.py` is the real one; tests use a toy.

    Submitting and collecting are two calls so that the next step can be prepared while one is computed.
    """

    def submit(self, batch: ScheduledBatch) -> HandleT:
        """Start computing a step."""
        ...

    def collect(self, handle: HandleT) -> list[SampledToken | None]:
        """Wait for it: one entry per item of the batch, None where the item does not sample."""
        ...
