"""Why a prompt was not found in the cache, for those who ask."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.stats import EngineStats
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine, always, script
from tests.fakes.http import events

COMPLETIONS = "/v1/completions"
PREFIX = "x-quire-prefix"


def report(client: TestClient, prompt: Any, path: str = COMPLETIONS, key: str = "", **fields: Any) -> dict[str, Any]:
    headers = {"x-quire-debug": "prefix"} | ({"x-api-key": key} if key else {})
    response = client.post(path, json={"prompt": prompt, **fields}, headers=headers)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = json.loads(response.headers[PREFIX])
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_it_names_the_first_token_that_differs(client: TestClient, stream: bool) -> None:
    first = report(client, "It is 12:03, Monday.", stream=stream)
    assert first == {"prompt_tokens": 21, "block_size": 16, "recent_prompts": 0}
    client.post(COMPLETIONS, json={"prompt": "something else"})
    found = report(client, "It is 12:04, Monday.", stream=stream)
    assert found.pop("seconds_ago") >= 0
    assert found == {
        "prompt_tokens": 21,
        "block_size": 16,
        "recent_prompts": 2,
        "same_tokens": 11,
        "reusable_tokens": 0,
        "first_difference": 11,
        "in_answer": False,
        "before": ["1", "2", ":", "0"],
        "here": ["4", ",", " ", "M", "o", "n"],
        "there": ["3", ",", " ", "M", "o", "n"],
    }


def test_the_answer_counts_as_part_of_what_was_there(client: TestClient, engine: FakeEngine) -> None:
    engine.answer = always(script([b"a", b"b", b"c"]))
    answer = [100, 101, 102]
    prompt = list(range(3, 23))
    client.post(COMPLETIONS, json={"prompt": prompt})
    differs = report(client, [*prompt, 100, 9])
    assert (differs["same_tokens"], differs["first_difference"], differs["in_answer"]) == (21, 21, True)
    same = report(client, [*prompt, *answer, 7])
    assert (same["same_tokens"], same["first_difference"], same["in_answer"]) == (23, None, True)
    assert same["reusable_tokens"] == 16


def test_a_repeated_prompt_differs_nowhere_and_its_last_token_is_computed(client: TestClient) -> None:
    prompt = list(range(3, 19))
    report(client, prompt)
    again = report(client, prompt)
    assert (again["same_tokens"], again["reusable_tokens"], again["first_difference"]) == (16, 0, None)


def test_prompts_are_compared_with_those_of_the_same_key_only(make_client: MakeClient) -> None:
    client = make_client(api_key=("one", "two"))
    report(client, "a private prompt of one", key="one")
    assert report(client, "a private prompt of two", key="two")["recent_prompts"] == 0
    assert report(client, "a private prompt of one!", key="one")["recent_prompts"] == 1


def test_prompts_of_an_engine_that_has_ended_are_forgotten_with_its_cache(
    client: TestClient, engine: FakeEngine
) -> None:
    report(client, "a prompt")
    assert report(client, "a prompt")["recent_prompts"] == 1
    engine.stats = EngineStats(restarts_total=1)
    assert report(client, "a prompt")["recent_prompts"] == 0
    assert report(client, "a prompt")["recent_prompts"] == 1


def test_who_does_not_ask_gets_no_report_and_what_there_is_not_is_refused(
    client: TestClient, engine: FakeEngine
) -> None:
    assert PREFIX not in client.post(COMPLETIONS, json={"prompt": "a"}).headers
    response = client.post(COMPLETIONS, json={"prompt": "a"}, headers={"x-quire-debug": "everything"})
    assert error_of(response)["param"] == "x-quire-debug"
    assert len(engine.requests) == 1


@pytest.mark.parametrize("path", [COMPLETIONS, "/v1/chat/completions"])
def test_cached_tokens_are_always_in_the_usage(client: TestClient, engine: FakeEngine, path: str) -> None:
    engine.answer = always(script("a b", cached_tokens=5))
    body = {"prompt": "abc"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "abc"}]}
    whole = client.post(path, json=body).json()
    streamed = client.post(path, json={**body, "stream": True, "stream_options": {"include_usage": True}}).text
    for usage in (whole["usage"], events(streamed)[-1]["usage"]):
        assert usage["prompt_tokens_details"]["cached_tokens"] == 5
