"""When what happened to a sequence, from its arrival to its last token."""

from __future__ import annotations

from dataclasses import dataclass

from engine.types import Timings


@dataclass(slots=True)
class Timeline:
    """Moments in the life of one choice, in seconds of the engine's clock.

    Attributes:
        arrived: when its request was sent to the engine.
        scheduled: when the first step it took part in began; None while it waits.
        first_token: when its first token had been sampled; None before.
        preemptions: how often it had to give its blocks back.
    """

    arrived: float = 0.0
    scheduled: float | None = None
    first_token: float | None = None
    preemptions: int = 0

    def computed(self, began: float, ended: float, *, sampled: bool) -> None:
        """It took part in a step; `sampled` says whether the step gave it a token."""
        if self.scheduled is None:
            self.scheduled = began
        if sampled and self.first_token is None:
            self.first_token = ended

    def timings(self, now: float) -> Timings:
        """Where the time went until `now`; phases it has not reached took none."""
        scheduled = now if self.scheduled is None else self.scheduled
        first_token = now if self.first_token is None else self.first_token
        return Timings(max(scheduled - self.arrived, 0.0), first_token - scheduled, now - first_token, self.preemptions)
