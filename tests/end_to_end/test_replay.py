"""A bug report, from `quire serve --dump-requests` to `quire replay`, with the demo model."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from quire.commands import replay
from tests.end_to_end.conftest import Server

QUESTION = "What is the capital of Norway?"
BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24},
    {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24, "stream": True, "temperature": 0},
]


@pytest.mark.parametrize("content", [True, False])
def test_requests_are_dumped_and_end_alike_when_they_are_replayed(
    tmp_path: Path, content: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    server = Server("--dump-requests", str(tmp_path), *(["--dump-content"] if content else []))
    try:
        for body in BODIES:
            assert httpx.post(f"{server.url}/chat/completions", json=body, timeout=600).status_code == 200
        deadline = time.monotonic() + 600
        while len(files := sorted(tmp_path.glob("*.json"))) < len(BODIES):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert replay.run([*map(str, files), "--base-url", server.url]) == 0
    finally:
        server.stop()
    assert "2 as before, 0 otherwise" in capsys.readouterr().out
    whole, streamed = (json.loads(file.read_text()) for file in files)
    assert ("Oslo" in json.dumps(streamed)) == content
    assert whole["generation"]["usage"]["prompt_tokens"] == streamed["generation"]["usage"]["prompt_tokens"]
    assert streamed["generation"]["timings"]["decode"] > 0
