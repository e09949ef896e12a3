"""Answers that show their prompt: `echo`, `prompt_logprobs`, and prompts without an answer."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from engine.text.token_bytes import token_bytes
from engine.types import GenerationRequest
from server.text import ModelText
from tests.fakes.engine import FakeEngine, Script, always, script
from tests.fakes.http import events


@pytest.fixture(autouse=True)
def _spelled(engine: FakeEngine, text: ModelText) -> None:
    engine.spell = token_bytes(text.tokenizer, 1000).of


def ask(client: TestClient, **fields: Any) -> Any:
    response = client.post("/v1/completions", json={"prompt": "añb", **fields})
    assert response.status_code == 200, response.text
    return response.json()


def stream(client: TestClient, **fields: Any) -> list[Any]:
    response = client.post("/v1/completions", json={"prompt": "añb", "stream": True, **fields})
    assert response.status_code == 200, response.text
    return events(response.text)


def test_echo_puts_the_prompt_in_front_as_it_was_sent(client: TestClient, engine: FakeEngine) -> None:
    (choice,) = ask(client, echo=True)["choices"]
    assert (choice["text"], choice["logprobs"]) == ("añbHello there, world!", None)
    assert engine.requests[0].sampling.prompt_logprobs is None  # nothing is computed for it
    assert ask(client, echo=False)["choices"][0]["text"] == "Hello there, world!"


def test_echo_of_token_ids_is_their_text(client: TestClient, text: ModelText) -> None:
    ids = text.tokenizer.encode("ab")
    assert ask(client, prompt=ids, echo=True)["choices"][0]["text"] == "abHello there, world!"
    shown = ask(client, prompt=[ids, ids[1:]], echo=True, skip_special_tokens=False)["choices"]
    assert [choice["text"] for choice in shown] == ["<s>abHello there, world!", "abHello there, world!"]


def test_arrays_cover_the_prompt_first(client: TestClient) -> None:
    (choice,) = ask(client, echo=True, logprobs=2)["choices"]
    shown = choice["logprobs"]
    assert shown["tokens"] == ["<s>", "a", "bytes:\\xc3", "bytes:\\xb1", "b", "Hello", " there,", " world!"]
    assert shown["token_logprobs"] == [None, -1.5, -2.5, -3.5, -4.5, -0.25, -0.25, -0.25]
    assert shown["top_logprobs"][:3] == [
        None,
        {"other0": -0.5, "a": -1.5},
        {"other0": -0.5, "other1": -1.5, "bytes:\\xc3": -2.5},
    ]
    assert shown["text_offset"] == [0, 0, 1, 1, 2, 3, 8, 15]
    offsets = [*shown["text_offset"][1:], len(choice["text"])]
    assert choice["text"][offsets[0] : offsets[1]] == "a"
    assert choice["text"][offsets[4] : offsets[5]] == "Hello"


@pytest.mark.parametrize("fields", [{}, {"logprobs": 1}, {"logprobs": 0, "n": 2}, {"max_tokens": 0, "logprobs": 1}])
def test_a_stream_begins_with_the_prompt_and_folds_to_the_whole(client: TestClient, fields: dict[str, Any]) -> None:
    whole = ask(client, echo=True, **fields)["choices"]
    chunks = [chunk["choices"][0] for chunk in stream(client, echo=True, **fields)]
    for expected in whole:
        mine = [chunk for chunk in chunks if chunk["index"] == expected["index"]]
        assert mine[0]["text"] == "añb"
        assert "".join(chunk["text"] for chunk in mine) == expected["text"]
        assert [chunk["finish_reason"] for chunk in mine if chunk["finish_reason"]] == [expected["finish_reason"]]
        if expected["logprobs"] is None:
            assert all(chunk["logprobs"] is None for chunk in mine)
            continue
        for name, values in expected["logprobs"].items():
            assert [each for chunk in mine if chunk["logprobs"] for each in chunk["logprobs"][name]] == values


def test_what_a_harness_for_evaluation_asks(client: TestClient, engine: FakeEngine) -> None:
    """One entry per prompt token and one more, also where the model ends at once; the best token's own value."""
    engine.answer = always(Script((), end=2))
    prompts = [[5, 6, 7, 8], [9, 10]]
    answer = ask(client, prompt=prompts, temperature=0, max_tokens=1, logprobs=1, seed=1234, echo=True)
    for ids, choice in zip(prompts, answer["choices"], strict=True):
        shown = choice["logprobs"]
        assert {len(values) for values in shown.values()} == {len(ids) + 1}
        assert all(max(top.values()) >= own for top, own in zip(*_judged(shown), strict=True))
        assert shown["text_offset"][-1] == len(choice["text"])
    assert answer["usage"]["completion_tokens"] == 0
    assert ask(client, logprobs=1)["choices"][0]["logprobs"]["tokens"] == []  # beside an echo only


def _judged(shown: dict[str, Any]) -> tuple[list[dict[str, float]], list[float]]:
    return shown["top_logprobs"][1:], shown["token_logprobs"][1:]


def test_choices_of_several_prompts_each_show_their_own(client: TestClient, engine: FakeEngine) -> None:
    def answer(request: GenerationRequest, choice: int) -> Script:
        return script(f"p{len(request.prompt_token_ids)} k{choice}")

    engine.answer = answer
    choices = ask(client, prompt=["x", "yz"], n=2, echo=True, logprobs=0)["choices"]
    assert [choice["text"] for choice in choices] == ["xp2 k0", "xp2 k1", "yzp3 k0", "yzp3 k1"]
    assert [len(choice["logprobs"]["tokens"]) for choice in choices] == [4, 4, 5, 5]


def test_nothing_but_the_prompt(client: TestClient, engine: FakeEngine) -> None:
    scored = ask(client, echo=True, logprobs=0, max_tokens=0)
    (choice,) = scored["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("añb", "length")
    assert choice["logprobs"]["token_logprobs"] == [None, -1.5, -2.5, -3.5, -4.5]
    assert scored["usage"]["completion_tokens"] == 0
    assert engine.requests[0].sampling.max_tokens == 0
    empty = ask(client, max_tokens=0, logprobs=0)["choices"][0]
    assert (empty["text"], empty["finish_reason"], empty["logprobs"]["tokens"]) == ("", "length", [])


def test_prompt_logprobs_are_listed_by_id(client: TestClient, text: ModelText) -> None:
    ids = text.tokenizer.encode("ab")
    (choice,) = ask(client, prompt="ab", prompt_logprobs=1)["choices"]
    assert choice["text"] == "Hello there, world!"
    assert choice["logprobs"] is None
    assert choice["prompt_logprobs"] == [
        None,
        {
            str(ids[1]): {"logprob": -1.5, "rank": None, "decoded_token": "a"},
            "900": {"logprob": -0.5, "rank": 1, "decoded_token": "other0"},
        },
        {
            str(ids[2]): {"logprob": -2.5, "rank": None, "decoded_token": "b"},
            "900": {"logprob": -0.5, "rank": 1, "decoded_token": "other0"},
        },
    ]
    ranked = ask(client, prompt="ab", prompt_logprobs=2)["choices"][0]["prompt_logprobs"][1]
    assert ranked[str(ids[1])] == {"logprob": -1.5, "rank": 2, "decoded_token": "a"}
    assert len(ranked) == 2


def test_echo_and_the_list_may_want_different_numbers(client: TestClient, engine: FakeEngine) -> None:
    (choice,) = ask(client, echo=True, logprobs=3, prompt_logprobs=1)["choices"]
    assert engine.requests[0].sampling.prompt_logprobs == 3
    assert len(choice["logprobs"]["top_logprobs"][4]) == 4
    assert len(choice["prompt_logprobs"][4]) == 2


def test_a_conversation_lists_them_once(client: TestClient, engine: FakeEngine) -> None:
    body = {"messages": [{"role": "user", "content": "hi"}], "prompt_logprobs": 0, "n": 2}
    answer = client.post("/v1/chat/completions", json=body).json()
    assert len(answer["prompt_logprobs"]) == answer["usage"]["prompt_tokens"]
    assert answer["prompt_logprobs"][0] is None
    assert all("prompt_logprobs" not in choice for choice in answer["choices"])
    plain = client.post("/v1/chat/completions", json={"messages": body["messages"]}).json()
    assert "prompt_logprobs" not in plain


@pytest.mark.parametrize(
    ("fields", "param"), [({"echo": True, "logprobs": 2}, "logprobs"), ({"prompt_logprobs": 2}, "prompt_logprobs")]
)
def test_no_more_is_told_than_there_should_be_in_memory(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], param: str
) -> None:
    monkeypatch.setattr("server.admission.MAX_PROMPT_LOGPROBS", 18)
    ask(client, prompt=[[5, 6, 7], [8, 9, 10]], **fields)
    response = client.post("/v1/completions", json={"prompt": [[5, 6, 7], [8, 9, 10, 11]], **fields})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        ("/v1/completions", {"prompt": "a", "prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ("/v1/completions", {"prompt": "a", "prompt_logprobs": 21}, "prompt_logprobs"),
        ("/v1/completions", {"prompt": "a", "prompt_logprobs": -1}, "prompt_logprobs"),
        ("/v1/completions", {"prompt": "a", "max_tokens": -1}, "max_tokens"),
        ("/v1/completions", {"prompt": "a", "echo": 1}, "echo"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "echo": True}, "echo"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}], "max_tokens": 0}, "max_tokens"),
    ],
)
def test_refusals(client: TestClient, path: str, fields: dict[str, Any], param: str) -> None:
    response = client.post(path, json=fields)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param
