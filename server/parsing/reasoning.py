"""Reasoning that stands between two markers before an answer: the forms models write it in, and its parser.

The engine tells reasoning and answer apart by the same rules (`engine/constraints/reasoning_text.py`).
"""

from __future__ import annotations

from typing import NamedTuple

from engine.errors import ConfigError
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer
from server.parsing.base import Event, StreamParser, Thought
from server.parsing.markers import split_at_marker

WHITE_SPACE = " \t\r\n"


class ReasoningFormat(NamedTuple):
    """One form of reasoning."""

    name: str  # what it is called in settings
    start: str
    end: str


FORMATS = (
    ReasoningFormat("think", "<think>", "</think>"),  # DeepSeek R1, Qwen3, GLM 4.5 and most others
    ReasoningFormat("thinking", "<thinking>", "</thinking>"),
    ReasoningFormat("thought", "<thought>", "</thought>"),
    ReasoningFormat("mistral", "[THINK]", "[/THINK]"),  # Magistral
    ReasoningFormat("seed_oss", "<seed:think>", "</seed:think>"),
    ReasoningFormat("cohere", "<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ReasoningFormat("granite", "Here is my thought process:", "Here is my response:"),  # Granite 3.2
)


def choose_reasoning(
    template: ChatTemplate | None, tokenizer: Tokenizer, override: str = "auto"
) -> ReasoningFormat | None:
    """The form in which a model reasons; None if it is not known to.

    Args:
        template: of the model. It knows a form if the end marker stands in it.
        tokenizer: of the model. It knows a form if both markers are tokens of their own.
        override: name of a form, `none`, or `auto`, which asks the template first.

    Raises:
        ConfigError: no form has this name.
    """
    if override == "none":
        return None
    if override != "auto":
        return _named(override)
    source = "" if template is None else template.source
    for each in FORMATS:
        if each.end in source:
            return each
    for each in FORMATS:
        if tokenizer.token_to_id(each.start) is not None and tokenizer.token_to_id(each.end) is not None:
            return each
    return None


def _named(name: str) -> ReasoningFormat:
    for each in FORMATS:
        if each.name == name:
            return each
    names = ", ".join(each.name for each in FORMATS)
    raise ConfigError(f"reasoning_format must be auto, none or one of {names}, not '{name}'.")


class ReasoningParser:
    """Makes thoughts of what stands between the markers, and leaves the rest to another parser.

    A block stands at the beginning, after nothing but white space, or straight behind another; markers elsewhere are
    part of the answer. A block that is never closed is all thought. An end marker where a block could be opened closes
    an empty one. Newlines at the edges of a block and in front of the answer behind it are dropped, as templates do.

    Args:
        markers: of the block.
        answer: reads what is not reasoning.
        begun: whether the text begins within the block.
    """

    def __init__(self, markers: ReasoningFormat, answer: StreamParser, *, begun: bool = False) -> None:
        self._start = markers.start
        self._end = markers.end
        self._answer = answer
        self._reasoning = begun
        self._answering = False
        self._closed = False  # whether a block has ended
        self._held = ""  # may still become a marker
        self._thought = False  # whether there has been any
        self._gap = ""  # newlines that come out if a thought follows them

    def feed(self, text: str) -> list[Event]:
        """As `StreamParser.feed`."""
        return self._answer.feed(text) if self._answering else self._read(text)

    def finish(self) -> list[Event]:
        """As `StreamParser.finish`."""
        return [*self._read("", ended=True), *self._answer.finish()]

    def _read(self, text: str, *, ended: bool = False) -> list[Event]:
        self._held += text
        events: list[Event] = []
        going_on = not self._answering
        while going_on:
            if self._reasoning:
                found, going_on = self._reason(ended=ended)
                events += found
            else:
                going_on = self._open(ended=ended)
        if self._answering and self._held:
            answer, self._held = self._held, ""
            events += self._answer.feed(answer)
        return events

    def _reason(self, *, ended: bool) -> tuple[list[Event], bool]:
        """Read on within a block; whether it has ended."""
        text, marker, self._held = split_at_marker(self._held, (self._end,), ended=ended)
        events = self._thoughts(text)
        if marker is not None:
            self._reasoning = False
            self._closed = True
        return events, marker is not None

    def _open(self, *, ended: bool) -> bool:
        """Read on outside; whether there is more to read."""
        text = self._held.lstrip(WHITE_SPACE)
        for marker in (self._start, self._end):
            if text.startswith(marker):
                self._reasoning = marker == self._start
                self._closed = self._closed or not self._reasoning
                self._gap = "\n" if self._thought and "\n" in self._held[: len(self._held) - len(text)] else ""
                self._held = text[len(marker) :]
                return True
            if marker.startswith(text) and not ended:
                return False
        if self._closed:
            self._held = self._held.lstrip("\n")
        self._answering = True
        return False

    def _thoughts(self, text: str) -> list[Event]:
        text = self._gap + text if self._thought else text.lstrip("\n")
        shown = text.rstrip("\n")
        self._gap = text[len(shown) :]
        if not shown:
            return []
        self._thought = True
        return [Thought(shown)]
