"""Serving an app on a real port, and reading raw event streams."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from server.main import bind


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """Serve the app from a thread; gives the URL of the server's root."""
    listener = bind("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=300)
        listener.close()


def events(body: str) -> list[Any]:
    """The JSON of every event of a stream, which must be well formed and end with `[DONE]`."""
    assert body.endswith("\n\n")
    blocks = body.removesuffix("\n\n").split("\n\n")
    lines = [block for block in blocks if not block.startswith(":")]
    assert all("\n" not in line and line.startswith("data: ") for line in lines), lines
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
