"""Deltas of one request on their way to a reader who may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from engine.errors import QuireError
from engine.types import OutputDelta


class DeltaStream:
    """A mailbox for the deltas of one request. What waits is handed out merged, at most one delta per choice.

    Args:
        num_choices: choices of the request.
    """

    def __init__(self, num_choices: int) -> None:
        self._unfinished = num_choices
        self._waiting: dict[int, list[OutputDelta]] = {}
        self._failure: QuireError | None = None
        self._reader: asyncio.Future[None] | None = None  # done once there is something to read

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self._unfinished == 0 or self._failure is not None

    def put(self, delta: OutputDelta) -> None:
        """Add what a step made certain."""
        waiting = self._waiting.get(delta.choice)
        if waiting is None:
            self._waiting[delta.choice] = [delta]
        else:
            waiting.append(delta)
            # merged like the carries of a binary counter: few deltas wait, and no token is copied often
            while len(waiting) > 1 and len(waiting[-1].token_ids) >= len(waiting[-2].token_ids):
                waiting[-2:] = [merge(waiting[-2:])]
        if delta.finish is not None:
            self._unfinished -= 1
        self._wake()

    def fail(self, error: QuireError) -> None:
        """End the stream with an error, once what came before it has been read."""
        self._failure = error
        self._wake()

    async def read(self) -> list[OutputDelta]:
        """Everything that waits, at least one delta; waits for it. One task at a time may do so.

        Raises:
            QuireError: the failure the stream was ended with.
        """
        if not self._waiting and self._failure is None:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        if not self._waiting and self._failure is not None:
            raise self._failure
        deltas = [merge(waiting) for waiting in self._waiting.values()]
        self._waiting.clear()
        return deltas

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


def merge(deltas: Sequence[OutputDelta]) -> OutputDelta:
    """Successive deltas of one choice as a single one."""
    last = deltas[-1]
    if len(deltas) == 1:
        return last
    logprobs = None
    if any(delta.logprobs is not None for delta in deltas):
        logprobs = tuple(entry for delta in deltas for entry in delta.logprobs or ())
    return last._replace(
        token_ids=tuple(token for delta in deltas for token in delta.token_ids),
        data=b"".join(delta.data for delta in deltas),
        logprobs=logprobs,
        timings=last.timings or deltas[0].timings,
        prompt_logprobs=deltas[0].prompt_logprobs,
    )
