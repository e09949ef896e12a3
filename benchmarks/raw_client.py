"""A load generator that costs next to nothing: one thread, `epoll`, and no parsing beyond counting.

    python -m benchmarks.raw_client PORT PATH CONNECTIONS REQUESTS_PER_CONNECTION BODY

Every connection sends its requests one after the other. An answer ends with the bytes that end a chunked stream or,
if it has a `Content-Length`, when that many have come. Printed is one JSON object, see `Load`.
"""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field

from benchmarks.server_process import ROOT

EVENT = b"data: {"
DONE = b"data: [DONE]\n\n\r\n0\r\n\r\n"


@dataclass(slots=True)
class Load:
    """What came back.

    Attributes:
        requests: answers complete.
        events: of event streams, `[DONE]` left out.
        reads: pieces the system handed out; fewer than events where the server joined some.
        seconds: from the first request to the end of the last answer.
        first_event_seconds: of each answer, from its request to its first byte of body.
        failed: answers with another status than 200.
    """

    requests: int = 0
    events: int = 0
    reads: int = 0
    seconds: float = 0.0
    first_event_seconds: list[float] = field(default_factory=list)
    failed: int = 0


class Answer:
    """Follows one answer as its bytes come, however they are cut.

    Attributes:
        ok: whether its status is 200, once its head is there.
        events: of its stream so far, `[DONE]` left out.
        begun: whether some of its body is there.
    """

    def __init__(self) -> None:
        self.ok = False
        self.events = 0
        self.begun = False
        self._tail = b""
        self._missing: int | None = None  # bytes of a body of known length

    def feed(self, data: bytes) -> bool:
        """Take in what has come; whether the answer is complete."""
        seen = self._tail + data
        if not self.begun:
            head, _, body = seen.partition(b"\r\n\r\n")
            if not body:
                self._tail = seen
                return False
            self.begun = True
            self.ok = head.startswith(b"HTTP/1.1 200")
            length = head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]
            self._missing = int(length) if length else None
            self._tail, data, seen = b"", body, body
        if self._missing is not None:
            self._missing -= len(data)
            return self._missing <= 0
        self.events += seen.count(EVENT) - self._tail.count(EVENT)
        self._tail = seen[-len(DONE) :]
        return seen.endswith(DONE)


class _Connection:
    def __init__(self, port: int, request: bytes, count: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self.left = count
        self._answer = Answer()
        self._sent_at = 0.0

    def send(self) -> None:
        self._answer = Answer()
        self._sent_at = time.perf_counter()
        self.socket.sendall(self._request)
        self.left -= 1

    def read(self, load: Load) -> bool:
        """Take in what has come; whether the answer is complete."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("The server has closed the connection.")
        load.reads += 1
        begun = self._answer.begun
        complete = self._answer.feed(data)
        if self._answer.begun and not begun:
            load.first_event_seconds.append(time.perf_counter() - self._sent_at)
        if complete:
            load.requests += 1
            load.events += self._answer.events
            load.failed += not self._answer.ok
        return complete


def run_load(port: int, path: str, connections: int, requests: int, body: bytes) -> Load:
    """Send `requests` on each of the connections and count what comes back."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    load = Load()
    open_ones = {}
    poll = select.epoll()
    for _ in range(connections):
        connection = _Connection(port, request, requests)
        open_ones[connection.socket.fileno()] = connection
        poll.register(connection.socket, select.EPOLLIN)
    start = time.perf_counter()
    for connection in open_ones.values():
        connection.send()
    while open_ones:
        for number, _ in poll.poll():
            connection = open_ones[number]
            if not connection.read(load):
                continue
            if connection.left:
                connection.send()
            else:
                poll.unregister(connection.socket)
                connection.socket.close()
                del open_ones[number]
    load.seconds = time.perf_counter() - start
    return load


def load_from_elsewhere(port: int, path: str, connections: int, requests: int, body: dict[str, object]) -> Load:
    """`run_load` in a process of its own.

    Raises:
        RuntimeError: an answer was an error.
    """
    command = [sys.executable, "-m", "benchmarks.raw_client", str(port), path, str(connections), str(requests)]
    done = subprocess.run([*command, json.dumps(body)], cwd=ROOT, check=True, capture_output=True, text=True)
    load = Load(**json.loads(done.stdout))
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.requests} requests failed.")
    return load


if __name__ == "__main__":
    port, path, connections, requests, body = sys.argv[1:]
    print(json.dumps(asdict(run_load(int(port), path, int(connections), int(requests), body.encode()))))
