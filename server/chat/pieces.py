"""What an answer is made of, streamed or whole: pieces, and the fold of a choice's pieces.

Streamed and whole answers are made of the same pieces, so they cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from engine.types import Finish
from server.chat.shown_prompt import ShownPrompt
from server.parsing.base import Arguments, CallBegins, Content, Event, Thought
from server.translate import PlacedLogprob


class Piece(NamedTuple):
    """What is to be added to one choice."""

    choice: int  # index among all choices of the HTTP request
    events: tuple[Event, ...]  # calls with their ids; neighbours are never both content, nor both thoughts
    logprobs: tuple[PlacedLogprob, ...]  # of tokens that made content
    finish: Finish | None
    prompt: ShownPrompt | None = None  # in front of everything else of the choice

    @property
    def text(self) -> str:
        """The content in it."""
        return "".join([event.text for event in self.events if isinstance(event, Content)])


@dataclass(slots=True)
class WholeCall:
    """The fold of a tool call."""

    name: str
    call_id: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class WholeChoice:
    """The fold of a choice's pieces."""

    content: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[WholeCall] = field(default_factory=list)
    logprobs: list[PlacedLogprob] = field(default_factory=list)
    finish: Finish | None = None
    prompt: ShownPrompt | None = None

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        for event in piece.events:
            match event:
                case Content(text):
                    self.content.append(text)
                case Thought(text):
                    self.thoughts.append(text)
                case CallBegins(name, call_id):
                    self.calls.append(WholeCall(name, call_id or ""))
                case Arguments(text):
                    self.calls[-1].arguments.append(text)
        self.logprobs.extend(piece.logprobs)
        self.finish = piece.finish or self.finish
        self.prompt = piece.prompt or self.prompt
