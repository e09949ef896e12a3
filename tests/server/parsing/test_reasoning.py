"""Thoughts before an answer, in a text that comes in any pieces."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.config import EngineConfig, ReasoningFormatName
from engine.constraints.reasoning_text import AnswerStops
from engine.errors import ConfigError
from engine.reasoning import ReasoningSpec
from engine.text.chat_template import ChatTemplate
from engine.text.tokenizer import Tokenizer
from server.parsing.base import Arguments, CallBegins, Content, Event, PlainParser, Thought
from server.parsing.hermes import HermesFormat
from server.parsing.reasoning import FORMATS, ReasoningFormat, ReasoningParser, choose_reasoning
from tests.engine.text.make_tokenizers import byte_level
from tests.server.parsing.laws import assert_cut_does_not_matter, cut, events_of, places, texts

THINK = FORMATS[0]
PIECES = ("<think>", "</think>", "\n", "\n\n", " ", "a", "b c")


def read(text: str, *, begun: bool = False, markers: ReasoningFormat = THINK) -> list[Event]:
    parser = ReasoningParser(markers, PlainParser(), begun=begun)
    return events_of(parser, list(text))


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("", []),
        ("The answer", [Content("The answer")]),
        ("\n The answer\n", [Content("\n The answer\n")]),
        ("<think>\nI see.\n\nSo\n</think>\n\n4\n", [Thought("I see.\n\nSo"), Content("4\n")]),
        ("\n<think>I see</think>4", [Thought("I see"), Content("4")]),
        ("<think>\n\n</think>\n\n4", [Content("4")]),
        ("<think>cut o", [Thought("cut o")]),
        ("<think>cut o\n", [Thought("cut o")]),
        ("<think>cut</thi", [Thought("cut</thi")]),
        ("<thi", [Content("<thi")]),
        ("\n", [Content("\n")]),
        ("<think>a</think>\n<think>b</think>c", [Thought("a\nb"), Content("c")]),
        ("<think>a</think>\n\n</think>\n\nc", [Thought("a"), Content("c")]),
        ("</think>\n\nc", [Content("c")]),
        ("<think>a</think>Use <think> and </think>.", [Thought("a"), Content("Use <think> and </think>.")]),
        ("The tag <think>a</think>", [Content("The tag <think>a</think>")]),
        ("<think>a < b </ c</think>d", [Thought("a < b </ c"), Content("d")]),
        ("<think>a<think>b</think>c", [Thought("a<think>b"), Content("c")]),
        ("<think>a</think> \n b", [Thought("a"), Content(" \n b")]),
    ],
)
def test_thoughts_and_answer(text: str, events: list[Event]) -> None:
    assert read(text) == events


def test_a_prompt_may_have_opened_the_block() -> None:
    assert read("\nI see\n</think>\n\n4", begun=True) == [Thought("I see"), Content("4")]
    assert read("I see", begun=True) == [Thought("I see")]
    assert read("</think>4", begun=True) == [Content("4")]
    assert read("", begun=True) == []


@pytest.mark.parametrize("markers", FORMATS, ids=lambda each: each.name)
def test_every_form(markers: ReasoningFormat) -> None:
    text = f"{markers.start}\nI see.\n{markers.end}\nIt is 4."
    assert read(text, markers=markers) == [Thought("I see."), Content("It is 4.")]


def test_what_follows_goes_to_another_parser() -> None:
    text = '<think>Call <tool_call> it.</think>\nWell.<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    events = events_of(ReasoningParser(THINK, HermesFormat().parser([])), list(text))
    assert events == [Thought("Call <tool_call> it."), Content("Well."), CallBegins("f"), Arguments("{}")]


@given(texts(PIECES), places(), st.booleans())
def test_the_cut_does_not_matter(text: str, where: list[int], begun: bool) -> None:
    assert_cut_does_not_matter(lambda: ReasoningParser(THINK, PlainParser(), begun=begun), text, where)


def reference(text: str, *, begun: bool) -> tuple[list[str], str, int]:
    """Blocks and answer of a whole text, and how many of its characters are reasoning."""
    blocks: list[str] = []
    rest, inside, closed = text, begun, False
    while True:
        if inside:
            before, marker, rest = rest.partition(THINK.end)
            blocks.append(before)
            if not marker:
                return blocks, "", len(text)
            closed = True
        stripped = rest.lstrip(" \t\r\n")
        inside = stripped.startswith(THINK.start)
        if not inside and not stripped.startswith(THINK.end):
            reasoning = len(text) - len(rest)
            return blocks, rest.lstrip("\n") if closed else rest, reasoning
        closed = closed or not inside
        rest = stripped[len(THINK.start if inside else THINK.end) :]


@given(texts(PIECES), st.booleans())
def test_it_finds_what_is_there(text: str, begun: bool) -> None:
    blocks, answer, _ = reference(text, begun=begun)
    events = events_of(ReasoningParser(THINK, PlainParser(), begun=begun), [text])
    assert "".join(event.text for event in events if isinstance(event, Content)) == answer
    thoughts = "".join(event.text for event in events if isinstance(event, Thought))
    assert thoughts.replace("\n", "") == "".join(blocks).replace("\n", "")
    assert thoughts.strip("\n") == thoughts


@given(texts(PIECES), places(), st.booleans())
def test_the_engine_counts_the_same_reasoning(text: str, where: list[int], begun: bool) -> None:
    """Tokens of reasoning are those that begin before the end of its last marker."""
    stops = AnswerStops(ReasoningSpec(THINK.start, THINK.end, begun=begun), None)
    tokens = [piece for piece in cut(text, where) if piece]
    begins = [sum(map(len, tokens[:number])) for number in range(len(tokens))]
    for number, token in enumerate(tokens, start=1):
        stops.advance(token.encode(), number)
    _, _, reasoning = reference(text, begun=begun)
    assert stops.tokens == sum(begin < reasoning for begin in begins)


def test_the_template_tells_how_a_model_reasons() -> None:
    tokenizer = Tokenizer(byte_level(), {}, {})
    assert choose_reasoning(None, tokenizer) is None
    assert choose_reasoning(ChatTemplate("{{ messages }}"), tokenizer) is None
    for each in FORMATS:
        assert choose_reasoning(ChatTemplate("{{ '" + each.end + "' }}"), tokenizer) == each


def test_the_tokenizer_tells_it_too() -> None:
    both = byte_level()
    both.add_tokens(["[THINK]", "[/THINK]", "<think>"])
    found = choose_reasoning(ChatTemplate("{{ messages }}"), Tokenizer(both, {}, {}))
    assert found is not None
    assert found.name == "mistral"


def test_the_setting_has_the_names_of_all_forms() -> None:
    assert get_args(ReasoningFormatName) == ("auto", "none", *(each.name for each in FORMATS))
    tokenizer = Tokenizer(byte_level(), {}, {})
    assert choose_reasoning(None, tokenizer, "mistral") == FORMATS[3]
    assert choose_reasoning(ChatTemplate("</think>"), tokenizer, "none") is None
    with pytest.raises(ConfigError, match="auto, none or one of think"):
        choose_reasoning(None, tokenizer, "other")
    with pytest.raises(ConfigError, match="reasoning_format"):
        EngineConfig(reasoning_format="other")  # type: ignore[arg-type]
