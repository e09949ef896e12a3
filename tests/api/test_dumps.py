"""Requests written to files, seen through the API."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.config import EngineConfig
from engine.errors import RequestFailedError
from engine.stats import EngineStats
from server.app import create_app
from server.config import ServerConfig
from server.dumps import describe, exchange
from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.api.test_prefix_report import COMPLETIONS
from tests.fakes.engine import FakeEngine, always, script

CHAT = "/v1/chat/completions"
CANARY = "canary-4711"
MESSAGES = [{"role": "user", "content": f"What is {CANARY}?"}]


def dumps(folder: Path, count: int) -> list[dict[str, Any]]:
    """The dumps in the folder, of which there must come to be `count`, in the order of the requests."""
    deadline = time.monotonic() + 600
    while len(found := sorted(folder.glob("*.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert len(found) == count
    return [json.loads(each.read_text()) for each in found]


def only(folder: Path) -> dict[str, Any]:
    (dump,) = dumps(folder, 1)
    return dump


@pytest.mark.parametrize("stream", [False, True])
def test_a_dump_has_everything_but_the_words(
    make_client: MakeClient, engine: FakeEngine, tmp_path: Path, stream: bool
) -> None:
    engine.answer = always(script(f"It is {CANARY} indeed", cached_tokens=3))
    engine.stats = EngineStats(running=5)
    client = make_client(dump_requests=str(tmp_path), api_key=("a-secret-key",))
    body = {"messages": MESSAGES, "temperature": 0.7, "stream": stream, "metadata": {CANARY: CANARY}}
    headers = {"x-request-id": "mine", "x-api-key": "a-secret-key", CANARY: CANARY}
    assert client.post(f"{CHAT}?key={CANARY}", json=body, headers=headers).status_code == 200
    dump = only(tmp_path)
    written = json.dumps(dump)
    assert "canary" not in written
    assert "secret" not in written
    assert (dump["request_id"], dump["method"], dump["path"], dump["content_kept"]) == ("mine", "POST", CHAT, False)
    assert dump["body"]["temperature"] == 0.7
    assert dump["body"]["messages"][0]["role"] == "user"
    assert dump["engine_at_arrival"]["running"] == 5
    generation, response = dump["generation"], dump["response"]
    assert generation["seeds"] == [engine.requests[0].sampling.seed]
    assert generation["finish_reasons"] == ["stop"]
    assert generation["usage"]["cached_tokens"] == 3
    assert generation["usage"]["completion_tokens"] == 4
    assert generation["timings"] == {"queue": 0.25, "prefill": 0.5, "decode": 2.0, "preemptions": 1}
    assert generation["sampling"]["temperature"] == 0.7
    assert (response["status"], response["error"], response["texts"]) == (200, None, None)
    assert len(response["chunks"]) > 4 if stream else len(response["chunks"]) == 1
    assert dump["server"]["model"]["weight_format"] == "exl2"
    assert "path" not in dump["server"]["model"]
    assert dump["server"]["settings"]["server"]["log_format"] == "text"


def test_of_a_grammar_a_dump_tells_the_kind_alone(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    client = make_client(dump_requests=str(tmp_path))
    schema = {"type": "object", "properties": {CANARY: {"enum": [CANARY]}}, "required": [CANARY]}
    fields = {"structured_outputs": {"json": schema}, "messages": MESSAGES}
    assert client.post(CHAT, json=fields).status_code == 200
    client.app.state.services.grammars.close()  # type: ignore[attr-defined]
    dump = only(tmp_path)
    assert "canary" not in json.dumps(dump)
    assert dump["generation"]["grammar"] == "json_schema"
    redacted = dump["body"]["structured_outputs"]["json"]
    assert redacted["type"] == "object"
    assert list(redacted["properties"]) == redacted["required"]


def test_the_filler_has_as_many_tokens(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    client = make_client(dump_requests=str(tmp_path))
    client.post(CHAT, json={"messages": MESSAGES})
    client.post(CHAT, json=only(tmp_path)["body"])
    first, again = engine.requests
    assert len(first.prompt_token_ids) == len(again.prompt_token_ids)
    assert first.prompt_token_ids != again.prompt_token_ids


@pytest.mark.parametrize("stream", [False, True])
def test_content_is_kept_where_that_is_asked_for(make_client: MakeClient, tmp_path: Path, stream: bool) -> None:
    client = make_client(dump_requests=str(tmp_path), dump_content=True)
    body = {"messages": MESSAGES, "stream": stream, "n": 2}
    client.post(CHAT, json=body)
    dump = only(tmp_path)
    assert dump["content_kept"] is True
    assert dump["body"] == body
    assert dump["response"]["texts"] == ["Hello there, world!"] * 2


def test_an_answer_too_long_to_keep_has_no_texts(
    make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (exchange, describe):
        monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 100)
    make_client(dump_requests=str(tmp_path), dump_content=True).post(CHAT, json={"messages": MESSAGES})
    dump = only(tmp_path)
    assert dump["response"]["texts"] is None
    assert dump["generation"]["finish_reasons"] == ["stop"]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({"messages": [{"role": CANARY, "content": CANARY}]}, 400, None, "messages[0].role"),
        ({"messages": MESSAGES, "model": CANARY}, 404, "model_not_found", "model"),
        ({"messages": MESSAGES, "logit_bias": {CANARY: 1}}, 400, None, "logit_bias"),
        ({"messages": [{"role": "developer", "content": CANARY}]}, 400, "chat_template_error", None),
    ],
)
def test_refusals(
    make_client: MakeClient, tmp_path: Path, body: Any, status: int, code: str | None, param: str | None
) -> None:
    client = make_client(dump_requests=str(tmp_path), repair_roles=False)
    client.post(CHAT, json=body)
    dump = only(tmp_path)
    assert "canary" not in json.dumps(dump)
    assert dump["response"]["status"] == status
    if code is not None:
        assert dump["response"]["error"]["code"] == code
    if param is not None:
        assert dump["response"]["error"]["param"] == param
    assert dump["generation"] is None


def test_what_is_no_json_is_not_shown(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(dump_requests=str(tmp_path))
    client.post(CHAT, content=f'{{"messages": {CANARY}', headers={"content-type": "application/json"})
    dump = only(tmp_path)
    assert (dump["body"], dump["body_bytes"]) == (None, 24)
    assert "canary" not in json.dumps(dump)


def test_failures_keep_their_error(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    client = make_client(dump_requests=str(tmp_path), dump_which="errors")
    client.post(CHAT, json={"messages": MESSAGES})
    engine.failure, engine.fail_after = RequestFailedError("It failed."), 1
    client.post(CHAT, json={"messages": MESSAGES, "stream": True})
    client.post(CHAT, json={"messages": MESSAGES})
    engine.failure = ZeroDivisionError(CANARY)
    client.post(CHAT, json={"messages": MESSAGES})
    streamed, whole, unforeseen = dumps(tmp_path, 3)
    assert (streamed["response"]["status"], streamed["response"]["error"]["message"]) == (200, "It failed.")
    assert streamed["generation"]["finish_reasons"] == [None]
    assert (whole["response"]["status"], whole["response"]["error"]["code"]) == (500, "request_failed")
    assert unforeseen["response"]["status"] == 500
    assert "canary" not in json.dumps(unforeseen)


def test_slow_ones_can_be_chosen(make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make_client(dump_requests=str(tmp_path), dump_which="slow", dump_slow_seconds=5000)
    client.post(COMPLETIONS, json={"prompt": "quick"})
    monkeypatch.setattr(exchange, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + 10_000))
    client.post(COMPLETIONS, json={"prompt": "slow"})  # which ends long after it began, by that clock
    assert only(tmp_path)["response"]["seconds"] >= 5000


def test_strangers_are_not_dumped(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(dump_requests=str(tmp_path), api_key=("k",))
    assert client.post(CHAT, json={"messages": MESSAGES}).status_code == 401
    client.get("/v1/models", headers={"x-api-key": "k"})
    client.post("/tokenize", json={"prompt": "a"}, headers={"x-api-key": "k"})
    assert only(tmp_path)["path"] == "/tokenize"


def test_paths_are_shown_without_what_clients_wrote_into_them(make_client: MakeClient, tmp_path: Path) -> None:
    assert make_client(dump_requests=str(tmp_path)).post(f"/v1/models/{CANARY}", json={}).status_code == 405
    dump = only(tmp_path)
    assert dump["path"] == "/v1/models/{model_id:path}"
    assert "canary" not in json.dumps(dump)


def test_a_folder_that_is_gone_fails_no_request(
    make_client: MakeClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client(dump_requests=str(tmp_path / "dumps"))
    (tmp_path / "dumps").rmdir()
    with caplog.at_level(logging.WARNING):
        assert client.post(COMPLETIONS, json={"prompt": "a"}).status_code == 200
        deadline = time.monotonic() + 600
        while "could not be dumped" not in caplog.text:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert client.post(COMPLETIONS, json={"prompt": "a"}).status_code == 200


def test_the_engines_settings_are_told_without_names_of_places(
    engine: FakeEngine, text: ModelText, tmp_path: Path
) -> None:
    engine_config = EngineConfig(model="/home/someone/model", max_num_seqs=3)
    app = create_app(engine, text, ServerConfig(dump_requests=str(tmp_path)), engine_config)
    TestClient(app, base_url="http://127.0.0.1").post(COMPLETIONS, json={"prompt": "a"})
    settings = only(tmp_path)["server"]["settings"]
    assert settings["engine"]["max_num_seqs"] == 3
    assert "someone" not in json.dumps(settings)
