"""Cuts off clients that stop reading their answers, so that nobody holds memory, cache blocks and a place for ever."""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)


def protocol_with_limit(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol, with a limit to how long written data may lie unread.

    uvicorn stops sending an answer while its buffer is full, 64 KiB beside what the system holds, and waits. What
    is added is an end to the waiting: the connection is cut, which the application sees as a client that went away.

    Args:
        seconds: from a full buffer to one that is nearly empty again.
    """

    class LimitedProtocol(HttpToolsProtocol):
        _cut: asyncio.TimerHandle | None = None

        def pause_writing(self) -> None:
            super().pause_writing()
            self._cut = asyncio.get_running_loop().call_later(seconds, self._cut_off)

        def resume_writing(self) -> None:
            self._forget()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._forget()
            super().connection_lost(exc)

        def _cut_off(self) -> None:
            logger.warning("A client has left its answer unread for %g seconds and is cut off.", seconds)
            self.transport.abort()

        def _forget(self) -> None:
            if self._cut is not None:
                self._cut.cancel()
                self._cut = None

    return LimitedProtocol
