"""What a connection may cost: clients that stop reading or sending are cut off, so that nobody holds memory, cache
blocks, a place or a file descriptor for ever."""

from __future__ import annotations

import asyncio
import logging
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.errors import malformed_request
from server.observability.logs import Seldom

logger = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65536
"""Of a request line and its headers; the parser has no limit of its own."""

MOST_DESCRIPTORS = 65536
SPARE_DESCRIPTORS = 64
"""Not for connections: files, the port, the engine's pipe and that of the next one."""


def raise_descriptor_limit() -> int:
    """Allow this process as many open files as the system lets it have without asking; says how many.

    The usual limit, 1024, is meant for programs that call `select`, and each connection takes one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


class _LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, with an end to what it would wait for without one.

    uvicorn stops sending an answer while its buffer is full, 64 KiB beside what the system holds, and waits; and it
    waits for the rest of a request. What is added is that the connection is cut, which the application sees as a client
    that went away.
    """

    stall_timeout: float
    room: int
    seldom: Seldom
    _cut: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _progressed = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.room:
            if self.seldom.now():
                logger.error("All %d connections that `ulimit -n` leaves room for are taken; raise it.", self.room)
            transport.abort()
            return
        self._look = self.loop.call_later(self.stall_timeout, self._look_for_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_cut()
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request's headers are too long.")

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, in the form of all errors."""
        body = malformed_request(msg).body()
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        self.transport.write(b"HTTP/1.1 400 Bad Request\r\n" + head.encode() + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        self._in_body()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._in_body()
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body()
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cut = self.loop.call_later(self.stall_timeout, self._cut_off_reader)

    def resume_writing(self) -> None:
        self._forget_cut()
        super().resume_writing()

    def _in_body(self) -> None:
        self._progressed = True
        self._head_bytes = 0

    def _is_owed_a_request(self) -> bool:
        """Whether the rest of a request is for the client to send; idle connections uvicorn looks after."""
        if self.timeout_keep_alive_task is not None or self.flow.read_paused:
            return False
        return self.cycle is None or self.cycle.more_body or self.cycle.response_complete

    def _look_for_progress(self) -> None:
        if self._is_owed_a_request() and not self._progressed:
            logger.info("A client has not gone on with its request for %g seconds and is cut off.", self.stall_timeout)
            self.transport.abort()
            return
        self._progressed = False
        self._look = self.loop.call_later(self.stall_timeout, self._look_for_progress)

    def _cut_off_reader(self) -> None:
        logger.warning("A client has left its answer unread for %g seconds and is cut off.", self.stall_timeout)
        self.transport.abort()

    def _forget_cut(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


def protocol_with_limits(stall_timeout: float, descriptors: int) -> type[asyncio.Protocol]:
    """The protocol of a server's connections.

    Args:
        stall_timeout: seconds from a full buffer to one that is nearly empty again; and, twice that at most, without
            a whole head or any of the body of a request that is still on its way.
        descriptors: open files the process may have. Connections that leave too few are closed at once.
    """

    class LimitedProtocol(_LimitedProtocol):
        pass

    LimitedProtocol.stall_timeout = stall_timeout
    LimitedProtocol.room = max(1, descriptors - SPARE_DESCRIPTORS)
    LimitedProtocol.seldom = Seldom()
    return LimitedProtocol
