"""Answers as they stream in, wherever the model runs."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, Protocol

from engine.text.chat_template import Message


class AnswerPiece(NamedTuple):
    """A piece of an answer; the last one says why it ended (`stop`, `length`, ...). Thoughts come before the text."""

    text: str
    finish_reason: str | None = None
    thoughts: str = ""


class Talker(Protocol):
    """Something that answers conversations."""

    @property
    def name(self) -> str:
        """What the model is called."""
        ...

    def answer(self, messages: Sequence[Message]) -> Generator[AnswerPiece, None, None]:
        """The answer to a conversation. Closing the generator ends it early.

        Raises:
            QuireError: there is no answer to these messages, or it broke off.
        """
        ...
