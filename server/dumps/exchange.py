"""What is seen of one HTTP request and its answer, as it passes by."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from starlette.types import Message

from engine.stats import EngineStats
from server.respond import CLIENT_CLOSED_REQUEST

MAX_CHUNKS = 20_000
MAX_ANSWER_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class Exchange:
    """Notes about a request. Costs a few appends per chunk.

    Attributes:
        method: of the request.
        path: of the route.
        stats: of the engine when it came.
        keep_answer: whether the answer's own bytes are wanted beyond what says that something went wrong.
        received: when it came, in Unix seconds.
        body: as far as it was read.
        status: of the answer; `CLIENT_CLOSED_REQUEST` until one begins.
        chunks: seconds since the request came and bytes of each part of the answer, the first `MAX_CHUNKS`.
        answer: the first `MAX_ANSWER_BYTES` of it, or of what failed only its error.
        seconds: from the beginning to the end.
    """

    method: str
    path: str
    stats: EngineStats
    keep_answer: bool
    received: float = field(default_factory=time.time)
    body: bytearray = field(default_factory=bytearray)
    status: int = CLIENT_CLOSED_REQUEST
    chunks: list[tuple[float, int]] = field(default_factory=list)
    answer: bytearray = field(default_factory=bytearray)
    seconds: float = 0.0
    _start: float = field(default_factory=time.perf_counter)

    def on_receive(self, message: Message) -> None:
        """Note a part of the request."""
        if message["type"] == "http.request":
            self.body += message.get("body", b"")

    def on_send(self, message: Message) -> None:
        """Note a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        data: bytes = message.get("body", b"")
        if data and len(self.chunks) < MAX_CHUNKS:
            self.chunks.append((round(time.perf_counter() - self._start, 6), len(data)))
        failed = self.status >= 400 or data.startswith(b'data: {"error"')
        if (self.keep_answer or failed) and len(self.answer) < MAX_ANSWER_BYTES:
            self.answer += data

    def end(self) -> None:
        """Note that nothing more will come."""
        self.seconds = time.perf_counter() - self._start
