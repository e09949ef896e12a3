from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ContextLengthError
from engine.text.tokenizer import Tokenizer
from server.chat.prompt import LONG_TEXT, ChatPrompt, chat_prompt, completion_prompts, decode_tokens, encode_text
from server.schemas.chat import Message, TemplateFields
from server.text import ModelText
from tests.fakes.text import model_text


class Watching:
    """A tokenizer that remembers which thread it ran in."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def fewest_tokens(self, text: str) -> int:
        return 0

    def token_to_id(self, token: str) -> int | None:
        return None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.threads.append(threading.get_ident())
        return [len(text)]

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        self.threads.append(threading.get_ident())
        return ""


async def build(text: ModelText, *messages: Message, max_tokens: int = 10**6) -> ChatPrompt:
    """The prompt of a conversation, with roles repaired as by default."""
    return await chat_prompt(messages, TemplateFields(), text, max_tokens=max_tokens, repair_roles=True)


def test_long_conversations_leave_the_event_loop(tmp_path: Path) -> None:
    tokenizer = Watching()
    real = model_text(tmp_path)
    text = ModelText(tokenizer, real.template, real.defaults, reasoning_format_name="none")  # type: ignore[arg-type]

    async def scenario() -> None:
        for content in ("short", "x" * LONG_TEXT):
            await build(text, Message(role="user", content=content))

    asyncio.run(scenario())
    assert tokenizer.threads[0] == threading.get_ident()
    assert tokenizer.threads[1] != threading.get_ident()


def test_long_texts_leave_the_event_loop_both_ways() -> None:
    tokenizer = Watching()

    async def scenario() -> None:
        for length in (1, LONG_TEXT):
            await encode_text("x" * length, tokenizer, max_tokens=10**6, add_special_tokens=True)  # type: ignore[arg-type]
            await decode_tokens([5] * length, tokenizer, skip_special_tokens=False)  # type: ignore[arg-type]

    asyncio.run(scenario())
    assert [each == threading.get_ident() for each in tokenizer.threads] == [True, True, False, False]


def test_a_text_far_too_long_is_refused_before_it_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = model_text(tmp_path)
    longest = max(map(len, text.tokenizer.vocabulary()))
    fits, exceeds = "x" * (99 * longest), "x" * (100 * longest)

    def refused(prompt: Coroutine[Any, Any, object]) -> ContextLengthError:
        with pytest.raises(ContextLengthError, match="at least 1") as caught:
            asyncio.run(prompt)
        return caught.value

    assert asyncio.run(encode_text(fits, text.tokenizer, max_tokens=100, add_special_tokens=False))
    monkeypatch.delattr(Tokenizer, "encode")
    messages = [Message(role="user", content=exceeds)]
    assert refused(build(text, *messages, max_tokens=100)).param == "messages"
    for prompt in (exceeds, ["short", exceeds]):
        encoding = completion_prompts(prompt, text.tokenizer, max_tokens=100, add_special_tokens=False)
        assert refused(encoding).param == "prompt"
    refused(encode_text(exceeds, text.tokenizer, max_tokens=100, add_special_tokens=False))
