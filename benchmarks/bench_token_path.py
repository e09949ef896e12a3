"""What a streamed token costs the server's own code: from the engine's delta to the bytes given to the HTTP protocol.

    python -m benchmarks.bench_token_path [--streams 64] [--steps 400] [--json FILE]

No sockets, no kernel, no other process: CPU time of the event loop while an engine in the same process hands a token to
every stream, again and again. Caches are warm; `benchmarks.bench_streams` has the cost in a server that waits between
steps.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from benchmarks.report import Row, add_report_option, report
from benchmarks.scripted_engine import describe
from benchmarks.server_process import DEMO
from engine.config import EngineConfig
from engine.delta_stream import DeltaStream
from engine.stats import EngineStats
from engine.types import GenerationRequest, ModelInfo, OutputDelta
from server.app import create_app
from server.config import ServerConfig
from server.text import load_model_text

BODY = json.dumps({"messages": [{"role": "user", "content": "Tell me a story."}], "stream": True}).encode()
HEADERS = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(BODY))]


class HandFedEngine:
    """An engine client whose answers go on as long as it is told."""

    def __init__(self, model: ModelInfo) -> None:
        self.model = model
        self.stats = EngineStats()
        self.healthy = True
        self.responsive = True
        self.silent_seconds = 0.0
        self.last_failure: str | None = None
        self._streams: dict[str, DeltaStream] = {}

    def check_available(self) -> None:
        """It always is."""

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[OutputDelta, None]:
        """Deltas as they are fed."""
        stream = self._streams[request.request_id] = DeltaStream(1)
        while True:
            for delta in await stream.read():
                yield delta

    async def close(self) -> None:
        """Nothing to end."""

    def feed(self) -> None:
        """A token for every stream."""
        for request_id, stream in self._streams.items():
            stream.put(OutputDelta(request_id, 0, (17,), b" hello"))


class Listener:
    """A streaming request, spoken as an HTTP server would."""

    def __init__(self) -> None:
        self.events = 0
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        """The body, and then nothing for ever."""
        if self._asked:
            await asyncio.Event().wait()
        self._asked = True
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(self, message: dict[str, Any]) -> None:
        """Count the events."""
        self.events += message["type"] == "http.response.body"

    def scope(self) -> dict[str, Any]:
        """The request's."""
        path = "/v1/chat/completions"
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": HEADERS,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "state": {},
        }


async def measure(streams: int, steps: int, repeat: int) -> float:
    """Least CPU time per token, in seconds.

    Raises:
        RuntimeError: tokens were not sent one by one.
    """
    engine = HandFedEngine(describe(EngineConfig(model=str(DEMO)), vocab_size=4096))
    app: Any = create_app(engine, load_model_text(DEMO), ServerConfig(log_level="warning"))
    listeners = [Listener() for _ in range(streams)]
    answers = [asyncio.create_task(app(each.scope(), each.receive, each.send)) for each in listeners]
    while not all(each.events for each in listeners):
        engine.feed()
        await asyncio.sleep(0.05)
    costs = []
    for _ in range(repeat):
        before = sum(each.events for each in listeners)
        start = time.thread_time()
        for _ in range(steps):
            engine.feed()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        costs.append((time.thread_time() - start) / (steps * streams))
        if sum(each.events for each in listeners) - before != steps * streams:
            raise RuntimeError("Not every token was an event of its own.")
    for answer in answers:
        answer.cancel()
    await asyncio.gather(*answers, return_exceptions=True)
    return min(costs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="answers at a time")
    parser.add_argument("--steps", type=int, default=400, help="tokens of each answer in one run")
    parser.add_argument("--repeat", type=int, default=10, help="runs; the cheapest counts")
    add_report_option(parser)
    arguments = parser.parse_args()
    cost = asyncio.run(measure(arguments.streams, arguments.steps, arguments.repeat))
    rows = [Row(f"server's own code per token, {arguments.streams} streams", cost * 1e6, "us", 10.0)]
    report("the path of a token", rows, arguments.json)


if __name__ == "__main__":
    main()
