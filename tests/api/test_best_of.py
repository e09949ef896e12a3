from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.types import GenerationRequest
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine, Script, script

COMPLETIONS = "/v1/completions"


def ranked(request: GenerationRequest, choice: int) -> Script:
    """The later a choice, the likelier and longer."""
    return script(" ".join([f"choice{choice}"] * (choice + 1)), logprob=choice - 5.0)


@pytest.fixture
def client(client: TestClient, engine: FakeEngine) -> TestClient:
    engine.answer = ranked
    return client


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post(COMPLETIONS, json={"prompt": "Hi", **fields})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize("n", [None, 1, 2, 4])
def test_the_likeliest_choices_are_returned_and_all_are_counted(
    client: TestClient, engine: FakeEngine, n: int | None
) -> None:
    answer = ask(client, best_of=4, n=n)
    texts = [" ".join([f"choice{each}"] * (each + 1)) for each in (3, 2, 1, 0)]
    assert [choice["text"] for choice in answer["choices"]] == (texts[: n or 1] if n != 4 else texts[::-1])
    assert [choice["index"] for choice in answer["choices"]] == list(range(n or 1))
    assert answer["usage"]["completion_tokens"] == 1 + 2 + 3 + 4
    assert engine.requests[-1].sampling.n == 4


def test_of_each_prompt(client: TestClient) -> None:
    answer = ask(client, prompt=["a", "b"], best_of=3, n=2)
    assert [choice["text"].split()[0] for choice in answer["choices"]] == ["choice2", "choice1"] * 2
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]


def test_log_probabilities_are_shown_only_where_they_were_asked_for(client: TestClient) -> None:
    assert ask(client, best_of=2)["choices"][0]["logprobs"] is None
    shown = ask(client, best_of=2, logprobs=0)["choices"][0]["logprobs"]
    assert shown["token_logprobs"] == [-4.0, -4.0]


@pytest.mark.parametrize("fields", [{"best_of": 2, "n": 3}, {"best_of": 2, "stream": True}, {"best_of": 129}])
def test_what_cannot_be_is_refused(client: TestClient, engine: FakeEngine, fields: dict[str, Any]) -> None:
    assert error_of(client.post(COMPLETIONS, json={"prompt": "Hi", **fields}), 400)["param"] == "best_of"
    assert engine.requests == []


def test_chats_have_no_best(client: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "best_of": 2}
    error = error_of(client.post("/v1/chat/completions", json=body), 400)
    assert (error["param"], error["code"]) == ("best_of", "unsupported_parameter")
    assert client.post("/v1/chat/completions", json={**body, "n": 2}).status_code == 200
