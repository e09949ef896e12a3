"""The engine as its users see it: a protocol of a few methods, and nothing of how it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from engine.stats import EngineStats
from engine.types import GenerationRequest, ModelInfo, OutputDelta


class EngineClient(Protocol):
    """What the server needs of an engine. `AsyncEngine` is the real one; tests use a scripted one."""

    @property
    def model(self) -> ModelInfo:
        """The loaded model."""
        ...

    @property
    def stats(self) -> EngineStats:
        """Figures of the latest step."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether the engine takes requests."""
        ...

    @property
    def responsive(self) -> bool:
        """Whether a step has completed or a ping was answered lately."""
        ...

    @property
    def silent_seconds(self) -> float:
        """Seconds since a step completed or a ping was answered."""
        ...

    @property
    def last_failure(self) -> str | None:
        """Why the engine process that was replaced last, or not at all, had ended; None while none has."""
        ...

    def check_available(self) -> None:
        """Refuse while no requests are taken.

        Raises:
            EngineRestartingError: the engine has failed and is being started again.
            EngineDeadError: it has died or was closed, for good.
        """
        ...

    def generate(self, request: GenerationRequest) -> AsyncIterator[OutputDelta]:
        """Queue the request and yield its deltas, those of all choices interleaved, until each has finished.

        Closing the iterator early (`aclose`, or cancelling the task that reads it) aborts the request.

        Raises:
            EngineDeadError: the engine has died, before or during the request.
            RequestFailedError: this request failed; the engine lives.
            InvalidRequestError: the engine cannot serve such a request (it could never fit the cache, ...).
        """
        ...

    async def close(self) -> None:
        """End the engine and free what it holds."""
        ...
