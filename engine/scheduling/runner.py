"""The seam between the step loop and whatever computes a step."""

from __future__ import annotations

from typing import Protocol, TypeVar

from engine.scheduling.batch import ScheduledBatch, StepOutcome

HandleT = TypeVar("HandleT")


class Runner(Protocol[HandleT]):
    """Computes steps. `engine/execution/model_runner.py` is the real one; tests use a toy.

    Submitting and collecting are two calls so that the next step can be prepared, and submitted, while one is computed.
    Steps take effect on the cache in the order in which they are submitted, and are collected in that order, too. Each
    is collected at most once; where one fails, those submitted after it never are.
    """

    def submit(self, batch: ScheduledBatch) -> HandleT:
        """Start computing a step.

        The batch's copies come first: where they read and write, what was submitted before is done.

        Everything about the batch must be read before this returns: its sequences go on changing. An item that is
        `in_flight` has no token on the host yet. It is the one sampled for its sequence by the step submitted last,
        which the runner therefore keeps until it has started this one.
        """
        ...

    def collect(self, handle: HandleT) -> StepOutcome:
        """Wait for it: what was sampled, and what was read of prompts.

        Raises, as `submit` may:
            InvalidLogitsError: only these requests are to blame; the others may be tried again.
            EngineDeadError: no further step can succeed.
        """
        ...
