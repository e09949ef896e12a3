"""Conversations and chat templates over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from server.text import ModelText
from tests.api.conftest import MakeClient
from tests.engine.text.test_template_capabilities import EITHER, STRICT
from tests.fakes.engine import FakeEngine
from tests.fakes.text import model_text

CONVERSATION = [
    {"role": "developer", "content": "Be brief."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "One"},
    {"role": "user", "content": "Two"},
]


@pytest.fixture
def strict(tmp_path: Path) -> ModelText:
    """A model that wants user and assistant in turns and nothing else."""
    return model_text(tmp_path, STRICT)


def prompt_of(engine: FakeEngine, text: ModelText) -> str:
    return text.tokenizer.decode(engine.requests[-1].prompt_token_ids, skip_special_tokens=False)


def test_roles_are_repaired_for_the_template(make_client: MakeClient, engine: FakeEngine, strict: ModelText) -> None:
    answer = make_client(strict).post("/v1/chat/completions", json={"messages": CONVERSATION})
    assert answer.status_code == 200
    assert prompt_of(engine, strict) == "[user]Be brief.[assistant]Hello![user]One\n\nTwo<|assistant|>\n"


def test_without_repair_the_template_is_right(make_client: MakeClient, engine: FakeEngine, strict: ModelText) -> None:
    client = make_client(strict, repair_roles=False)
    for path in ("/v1/chat/completions", "/tokenize"):
        answer = client.post(path, json={"messages": CONVERSATION})
        assert answer.status_code == 400
        error: dict[str, Any] = answer.json()["error"]
        assert (error["code"], error["param"]) == ("chat_template_error", "messages")
        assert error["message"] == "alternate! (line 1 of the chat template)"
    assert engine.requests == []


def test_tokenize_counts_the_repaired_conversation(make_client: MakeClient, strict: ModelText) -> None:
    answer = make_client(strict).post("/tokenize", json={"messages": CONVERSATION}).json()
    assert answer["count"] == len("[user]Be brief.[assistant]Hello![user]One\n\nTwo<|assistant|>\n")


def test_cache_breakpoints_in_parts_change_nothing(make_client: MakeClient, engine: FakeEngine, tmp_path: Path) -> None:
    text = model_text(tmp_path, EITHER)
    part = {"type": "text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}
    body = {"messages": [{"role": "user", "content": [part, part]}]}
    answer = make_client(text).post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert "x-quire-ignored-fields" not in answer.headers
    assert prompt_of(engine, text) == "<|user|>HiHi<|assistant|>\n"
