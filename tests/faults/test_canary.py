"""What clients write must not get into the log: at any level, in any form, whatever happens to their requests."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.server_process import PATIENCE, eventually
from tests.fakes.toy_server import ToyServer

CANARY = "canary-4711"
USER = {"role": "user", "content": CANARY}
CALL = {"id": CANARY, "type": "function", "function": {"name": CANARY, "arguments": f'{{"{CANARY}": '}}

CHATS: list[dict[str, Any]] = [
    {},
    {"stream": True},
    {"stop": CANARY, "logprobs": True},
    {"model": CANARY},
    {"messages": [{"role": CANARY, "content": CANARY}]},
    {"messages": [{"role": "function", "content": CANARY, "name": CANARY}]},  # refused by the template
    {"messages": [{"role": "user", "content": [{"type": CANARY, "text": CANARY}]}]},
    {"messages": [{"role": "user", "content": CANARY * 1000}]},  # too long
    {"messages": [{"role": "assistant", "content": None, "tool_calls": [CALL]}]},
    {"messages": [{"role": "user", "content": f"{CANARY}\ud800"}]},
    {"temperature": CANARY},
    {"seed": CANARY},
    {"logit_bias": {CANARY: 1}},
    {"tools": [{"type": "function", "function": {"name": CANARY}}]},
    {"response_format": {"type": "json_schema", "json_schema": {"name": CANARY, "schema": {}}}},
    {"chat_template_kwargs": {"mood": CANARY}},
    {"user": CANARY, "metadata": {CANARY: CANARY}},
    {"timeout": 0.0001, "max_tokens": 200},
]


def ask_everything(server: ToyServer) -> set[int]:
    """Send all of it; the statuses that came back."""
    statuses = set()
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        json_type = {"content-type": "application/json"}
        for fields in CHATS:
            body = json.dumps({"messages": [USER], "max_tokens": 3, **fields})
            statuses.add(client.post("/v1/chat/completions", content=body, headers=json_type).status_code)
        for content in (f'{{"messages": "{CANARY}', f'["{CANARY}"]', CANARY, b"\xff" + CANARY.encode()):
            statuses.add(client.post("/v1/chat/completions", content=content, headers=json_type).status_code)
        for path, fields in (
            ("/v1/completions", {"prompt": CANARY}),
            ("/v1/completions", {"prompt": [CANARY, [CANARY]]}),
            ("/tokenize", {"prompt": CANARY}),
            ("/detokenize", {"tokens": [CANARY]}),
            (f"/{CANARY}?{CANARY}={CANARY}", {}),
        ):
            statuses.add(client.post(path, json=fields, headers={"authorization": f"Bearer {CANARY}"}).status_code)
        statuses.add(client.get(f"/v1/models/{CANARY}", headers={CANARY: CANARY}).status_code)
    return statuses


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_log_has_no_words_of_clients(tmp_path: Path, form: str) -> None:
    settings = {"log_level": "debug", "log_format": form}
    with ToyServer(tmp_path, "faulty", server=settings).ready() as server:
        assert {200, 400, 404} <= ask_everything(server)
        assert server.complete([98]).status_code == 500  # a step fails
        os.kill(server.child, signal.SIGKILL)
        eventually(lambda: server.status() == 200)
        code, log = server.stop()
        assert code == 0
    assert CANARY not in log
    assert log.count("request ended") > len(CHATS)
    assert "A step failed" in log
    if form == "json":
        lines = [json.loads(line) for line in log.splitlines()]
        (failed,) = [line for line in lines if line["message"].startswith("A step failed")]
        assert failed["logger"] == "engine.core"
        assert failed["error"] == "RuntimeError: the toy is broken"
        ended = [line for line in lines if line["message"] == "request ended"]
        assert all(line["request_id"] for line in ended)
        (about,) = [line for line in ended if line.get("answer_id", "no answer") in failed["request_ids"][0]]
        assert about["status"] == 500
