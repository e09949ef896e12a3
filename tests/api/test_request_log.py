"""The line each request leaves in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.errors import RequestFailedError
from engine.logs import FIELDS, JsonFormatter, TextFormatter
from engine.types import Timings
from tests.api.conftest import MakeClient
from tests.fakes.engine import FakeEngine, always, script

CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "a private question"}]}


@pytest.fixture(autouse=True)
def everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "server")


def ended(caplog: pytest.LogCaptureFixture) -> list[tuple[str, dict[str, Any]]]:
    """Level and fields of every request's line."""
    lines = [each for each in caplog.records if each.getMessage() == "request ended"]
    return [(each.levelname, getattr(each, FIELDS)) for each in lines]


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer(client: TestClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture, stream: bool) -> None:
    engine.answer = always(script("a private answer", cached_tokens=2))
    asked = {**BODY, "n": 2, "max_tokens": 2, "stream": stream}
    client.post(f"{CHAT}?token=private", json=asked, headers={"x-request-id": "mine"})
    ((level, fields),) = ended(caplog)
    assert level == "INFO"
    assert 0 < fields.pop("first_token_seconds") <= fields.pop("total_seconds")
    assert fields.pop("prompt_tokens") > 10
    assert fields.pop("longest_gap_seconds") > 0
    assert fields == {
        "request_id": "mine",
        "method": "POST",
        "route": CHAT,
        "status": 200,
        "model": "fake-model",
        "answer_id": engine.requests[0].request_id,
        "cached_tokens": 2,
        "completion_tokens": 4,
        "queue_seconds": 0.25,
        "prefill_seconds": 0.5,
        "decode_seconds": 2.0,
        "preemptions": 2,
        "finish_reasons": ["length", "length"],
    }
    for formatter in (JsonFormatter(), TextFormatter()):
        assert not any("private" in formatter.format(each) for each in caplog.records if each.name.startswith("server"))


def test_the_slowest_part_of_a_request_is_shown(
    client: TestClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    times = {
        (0, 0): Timings(1.0, 2.0, 3.0, 0),
        (0, 1): Timings(9.0, 9.0, 4.0, 1),  # waited for the first choice, which is no news about the prompt
        (1, 0): Timings(5.0, 1.0, 1.0, 2),
        (1, 1): Timings(9.0, 9.0, 2.0, 0),
    }
    engine.answer = lambda request, choice: script("a b", timings=times[len(request.prompt_token_ids) - 3, choice])
    client.post("/v1/completions", json={"prompt": ["ab", "abc"], "n": 2})
    ((_, fields),) = ended(caplog)
    assert [fields[f"{phase}_seconds"] for phase in ("queue", "prefill", "decode")] == [5.0, 2.0, 4.0]
    assert fields["preemptions"] == 3


def test_an_answer_that_failed(client: TestClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine.failure, engine.fail_after = RequestFailedError("It failed."), 1
    client.post(CHAT, json={**BODY, "stream": True})
    client.post("/v1/completions", json={"prompt": "Hi"})
    (_, streamed), (_, whole) = ended(caplog)
    assert (streamed["status"], streamed["finish_reasons"], streamed["completion_tokens"]) == (200, [None], 1)
    assert {streamed[name] for name in ("queue_seconds", "prefill_seconds", "decode_seconds", "preemptions")} == {None}
    assert (whole["route"], whole["status"], whole["finish_reasons"]) == ("/v1/completions", 500, [None])


def test_what_generated_nothing(make_client: MakeClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    client = make_client(api_key=("k",))
    engine.failure = RuntimeError("a bug")
    client.post(CHAT, json=BODY)
    key = {"x-api-key": "k"}
    client.get("/v1/models/fake-model", headers=key)
    client.get("/secret/path", headers=key)
    client.post(CHAT, json=BODY, headers=key)
    shown = [(level, fields["route"], fields["status"], "model" in fields) for level, fields in ended(caplog)]
    assert shown == [
        ("INFO", CHAT, 401, False),
        ("INFO", "/v1/models/{model_id:path}", 200, False),
        ("INFO", None, 404, False),
        ("INFO", CHAT, 500, True),
    ]


def test_what_is_polled_is_quiet_unless_it_fails(
    client: TestClient, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    client.get("/health")
    client.get("/metrics")
    engine.healthy = False
    client.get("/health")
    assert [(level, fields["status"]) for level, fields in ended(caplog)] == [
        ("DEBUG", 200),
        ("DEBUG", 200),
        ("INFO", 503),
    ]
