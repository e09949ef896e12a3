"""What becomes of prompts: cut where the client allows it, and around a gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tokenizers
from fastapi.testclient import TestClient

from engine.text.tokenizer import load_tokenizer
from server.text import ModelText, load_model_text
from tests.api.conftest import MakeClient
from tests.api.test_refusals import error_of
from tests.fakes.engine import FakeEngine
from tests.fakes.http import events
from tests.fakes.text import write_model_text

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
CUT = "x-quire-truncated-tokens"
LONG = "abcdefgh" * 50  # and a context of 256 tokens


def sent(engine: FakeEngine) -> list[int]:
    return list(engine.requests[-1].prompt_token_ids)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ({"truncation": {"side": "left"}, "max_tokens": 16}, slice(-239, None)),  # and the token that begins a text
        ({"truncation": {"side": "right"}, "max_tokens": 16}, slice(0, 239)),
        ({"truncation": {"side": "left", "max_tokens": 11}}, slice(-10, None)),
        ({"truncate_prompt_tokens": 11}, slice(-10, None)),
        ({"truncate_prompt_tokens": 11, "truncation_side": "right"}, slice(0, 10)),
    ],
)
def test_a_long_prompt_is_cut_on_the_side_that_was_named(
    client: TestClient, engine: FakeEngine, text: ModelText, fields: dict[str, Any], kept: slice
) -> None:
    body = {"prompt": LONG, **fields}
    answer = client.post(COMPLETIONS, json=body)
    assert sent(engine) == [0, *text.tokenizer.encode(LONG, False)[kept]]
    assert answer.headers[CUT] == str(401 - len(sent(engine)))
    usage = answer.json()["usage"]
    assert usage["prompt_tokens"] == len(sent(engine))
    assert usage["prompt_tokens_details"]["truncated_tokens"] == 401 - len(sent(engine))
    streamed = client.post(COMPLETIONS, json={**body, "stream": True})
    assert streamed.headers[CUT] == answer.headers[CUT]
    shown = client.post(f"{COMPLETIONS}/render", json=body)
    assert (shown.json()["data"][0]["token_ids"], shown.headers[CUT]) == (sent(engine), answer.headers[CUT])


def test_a_long_conversation_is_cut_too(client: TestClient, engine: FakeEngine, text: ModelText) -> None:
    body = {"messages": [{"role": "user", "content": LONG}], "truncation": {"side": "left"}}
    answer = client.post(CHAT, json=body)
    assert answer.status_code == 200
    assert len(sent(engine)) == 256 * 3 // 4
    assert answer.headers[CUT] == str(len(f"<user>{LONG}") + 2 + len("<assistant>") - len(sent(engine)))
    assert text.tokenizer.decode(sent(engine), False).endswith("gh</s><assistant>")
    shown = client.post(f"{CHAT}/render", json=body).json()["data"][0]
    assert shown["prompt"] == text.tokenizer.decode(sent(engine), skip_special_tokens=False)


def test_nothing_is_cut_without_need_or_without_leave(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post(COMPLETIONS, json={"prompt": "abc", "truncation": {"side": "left"}})
    assert (answer.headers[CUT], len(sent(engine))) == ("0", 4)
    plain = client.post(COMPLETIONS, json={"prompt": "abc"})
    assert CUT not in plain.headers
    assert "truncated_tokens" not in plain.json()["usage"]["prompt_tokens_details"]
    for allowed in ({}, {"truncation": "disabled"}):
        error = error_of(client.post(COMPLETIONS, json={"prompt": LONG, **allowed}), 400)
        assert error["code"] == "context_length_exceeded"


@pytest.fixture
def coder(tmp_path: Path) -> ModelText:
    """A model that fills gaps as Qwen2.5-Coder does."""
    directory = write_model_text(tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.add_special_tokens(["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    return load_model_text(directory)


def test_a_suffix_has_the_gap_before_it_filled(make_client: MakeClient, engine: FakeEngine, coder: ModelText) -> None:
    client = make_client(coder)
    answer = client.post(COMPLETIONS, json={"prompt": "def f(", "suffix": "): pass", "stop_token_ids": [5]})
    assert answer.json()["choices"][0]["text"] == "Hello there, world!"
    prompt = coder.tokenizer.decode(sent(engine), skip_special_tokens=False)
    assert prompt == "<s><|fim_prefix|>def f(<|fim_suffix|>): pass<|fim_middle|>"
    assert engine.requests[-1].sampling.stop_token_ids == (5, coder.tokenizer.token_to_id("<|fim_pad|>"))
    for before in ("", [3, 4]):
        body = {"prompt": before, "suffix": "x", "add_special_tokens": False, "ignore_eos": True, "stream": True}
        assert events(client.post(COMPLETIONS, json=body).text)
        prefix = before if isinstance(before, str) else coder.tokenizer.decode(before)
        assert coder.tokenizer.decode(sent(engine), False) == f"<|fim_prefix|>{prefix}<|fim_suffix|>x<|fim_middle|>"
        assert engine.requests[-1].sampling.stop_token_ids == ()


def test_an_empty_suffix_is_none(client: TestClient, engine: FakeEngine) -> None:
    for suffix in ("", None):
        assert client.post(COMPLETIONS, json={"prompt": "a", "suffix": suffix}).status_code == 200
        assert len(sent(engine)) == 2


def test_a_suffix_is_refused_by_models_that_fill_no_gaps(
    make_client: MakeClient, client: TestClient, coder: ModelText
) -> None:
    error = error_of(client.post(COMPLETIONS, json={"prompt": "a", "suffix": "b"}), 400)
    assert (error["param"], error["code"]) == ("suffix", "unsupported_parameter")
    body = {"prompt": "a", "suffix": "b", "truncation": {"side": "left"}}
    assert error_of(make_client(coder).post(COMPLETIONS, json=body), 400)["param"] == "suffix"


def test_a_tokenizer_tells_whether_it_begins_texts(tmp_path: Path, text: ModelText) -> None:
    assert text.tokenizer.adds_bos
    directory = write_model_text(tmp_path)
    bare = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
    bare.post_processor = tokenizers.processors.ByteLevel()
    bare.save(str(directory / "tokenizer.json"))
    assert not load_tokenizer(directory).adds_bos
