from __future__ import annotations

import re

import pytest
from hypothesis import given

from server.parsing.base import Arguments, CallBegins, Content, Thought
from server.parsing.grammar_parts import json_value
from server.parsing.harmony import MOST_OF_A_HEADER, HarmonyFormat
from server.parsing.tool_format import Demand
from tests.server.parsing.laws import assert_cut_does_not_matter, calls_in, content_in, events_of, places, texts
from tests.server.parsing.round_trip import assert_round_trip
from tests.server.parsing.sampling import Vocabulary
from tests.server.parsing.tools import TOOLS, calls_of, parser_of, values_of

HARMONY = HarmonyFormat()
THOUGHT = "<|channel|>analysis<|message|>Hm, 1 < 2.<|end|>"
CALL = '<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{"city": "Oslo"}'
PIECES = [
    THOUGHT,
    f"{CALL}<|call|>",
    "<|channel|>",
    "<|start|>assistant",
    "<|start|>",
    "analysis",
    "commentary",
    "final",
    " to=functions.get_time",
    " to=get_time",
    "<|constrain|>",
    " json",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "{}",
    "\n",
    " ",
    "<|",
    "Hello.",
    "x" * 300,
]


def found(text: str) -> list[object]:
    return list(events_of(parser_of(HARMONY), [text]))


def test_channels_are_thoughts_and_content() -> None:
    text = f"{THOUGHT}<|start|>assistant<|channel|>commentary<|message|>I look.<|end|><|start|>assistant{CALL}<|call|>"

    assert found(text) == [
        Thought("Hm, 1 < 2."),
        Content("I look."),
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo"}'),
    ]
    assert found(f"{THOUGHT}<|start|>assistant<|channel|>final<|message|>Sunny.<|return|>") == [
        Thought("Hm, 1 < 2."),
        Content("Sunny."),
    ]


@pytest.mark.parametrize(
    "header",
    [
        "<|channel|>commentary to=functions.get_weather <|constrain|>json",
        "<|channel|>commentary to=functions.get_weather<|constrain|>json",
        "<|channel|>commentary to=functions.get_weather",
        "<|channel|>commentary to=functions.get_weather json",
        "<|channel|>commentary to=functions.get_weather <|constrain|>JSON ??",
        "<|channel|>analysis to=functions.get_weather code",
        "<|channel|>commentary to=get_weather",
        " to=functions.get_weather<|channel|>commentary <|constrain|>json",
        "<|start|>assistant to=functions.get_weather<|channel|>commentary json",
        "<|start|>assistant<|channel|>commentary to=assistant<|channel|>commentary to=functions.get_weather",
    ],
)
@pytest.mark.parametrize("end", ["<|call|>", "<|end|>", ""])
def test_headers_of_calls(header: str, end: str) -> None:
    assert values_of(HARMONY, f'{header}<|message|>{{"days": 3}}{end}') == [("get_weather", {"days": 3})]


def test_names_are_taken_whole() -> None:
    assert calls_of(HARMONY, CALL.replace("get_weather", "web-browsing.v2"))[0][0] == "web-browsing.v2"


def test_no_arguments_are_an_empty_object() -> None:
    call = "<|channel|>commentary to=functions.get_time<|message|> <|call|>"
    assert values_of(HARMONY, call + call) == [("get_time", {})] * 2


def test_several_calls_in_a_row() -> None:
    assert (
        calls_of(HARMONY, f"{CALL}<|call|><|start|>assistant{CALL}<|call|>{CALL}")
        == [("get_weather", '{"city": "Oslo"}')] * 3
    )


def test_arguments_go_out_as_they_come() -> None:
    parser = parser_of(HARMONY)
    assert parser.feed(CALL[:-2]) == [CallBegins("get_weather"), Arguments('{"city": "Oslo')]
    assert parser.feed('"}<|ca') == [Arguments('"}')]
    assert parser.feed("ll|>") == []


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("<|channel|>final Sunny.<|end|>", [Content("Sunny.")]),
        (
            "<|channel|>analysis Hm.<|end|><|start|>assistant<|channel|>final<|message|>x",
            [Thought("Hm."), Content("x")],
        ),
        (
            '<|channel|>commentary to=functions.f <|constrain|>json{"a": 1}<|call|>',
            [CallBegins("f"), Arguments('{"a": 1}')],
        ),
        (
            f"<|channel|>commentary?commentary?<|end|><|start|>assistant{THOUGHT}",
            [Content("?commentary?"), Thought("Hm, 1 < 2.")],
        ),
        ("<|channel|>analysis––commentary<|message|>Hm.<|end|>", [Thought("Hm.")]),
        ("<|channel|>??<|message|>Sunny.", [Content("Sunny.")]),
        (f"{THOUGHT}Sunny.", [Thought("Hm, 1 < 2."), Content("Sunny.")]),
        ("<|start|>assistant<|message|>Sunny.<|return|>", [Content("Sunny.")]),
        (
            "<|channel|>final<|message|>Sunny.<|start|>assistant<|channel|>analysis<|message|>Hm.",
            [Content("Sunny."), Thought("Hm.")],
        ),
        ("<|channel|>analysis to=python code<|message|>1 + 1<|call|>", [Thought("1 + 1")]),
        ("<|channel|>commentary to=assistant<|message|>x<|end|>", [Content("x")]),
        (f"<|channel|>{'x' * MOST_OF_A_HEADER}<|message|>", [Content(f"{'x' * MOST_OF_A_HEADER}<|message|>")]),
        ("<|channel|>ana", []),
        ("<|channel|>final Sunny.", [Content("Sunny.")]),
        ("<|channel|>analysis<|mess", []),
        ("<|channel|>commentary to=functions.get_", []),
        ("<|channel|>commentary to=functions.get_time <|constrain|>js", []),
    ],
)
def test_headers_that_are_wrong_or_cut_off_do_no_harm(text: str, events: list[object]) -> None:
    assert found(text) == events


@pytest.mark.parametrize(
    "text",
    ["Hello.", " to whom?", "to=me", "to=functions", "<|chan", "a <|channel|>final<|message|> b", " \n", "<|message|>"],
)
def test_text_that_is_no_message_stays_content(text: str) -> None:
    assert found(text) == [Content(text)]


@pytest.mark.parametrize("length", range(CALL.index("{"), len(CALL)))
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(length: int) -> None:
    ((name, arguments),) = calls_of(HARMONY, CALL[:length])

    assert name == "get_weather"
    assert '{"city": "Oslo"}'.startswith(arguments)


def test_markers_within_the_strings_of_arguments_are_part_of_them() -> None:
    arguments = '{"city":\n "<|call|><|end|>"}'
    assert calls_of(HARMONY, f"{CALL[: CALL.index('{')]}{arguments}<|call|>") == [("get_weather", arguments)]
    broken = CALL.replace('"}', "\n<|end|>")
    assert found(f"{broken}Sunny.")[1:] == [Arguments('{"city": "Oslo\n'), Content("Sunny.")]


@pytest.mark.parametrize("special", [True, False])
def test_what_the_grammar_allows_is_read_back(special: bool) -> None:
    assert_round_trip(HARMONY, vocabulary=Vocabulary(HARMONY.markers if special else (), ["<|end|>"]))


def test_an_answer_that_must_have_a_form_has_it_in_the_final_channel() -> None:
    demand = Demand(required=False, parallel=True, special={}, answer=json_value({"type": "integer"}))
    grammar, vocabulary = HARMONY.grammar(TOOLS, demand), Vocabulary((), ["<|end|>"])
    answers = [events_of(parser_of(HARMONY), [vocabulary.answer(grammar, seed)]) for seed in range(20)]

    final = [content_in(events[-1:]) for events in answers if not calls_in(events)]
    assert final
    assert all(re.fullmatch("-?[0-9]+", text) for text in final)


@given(texts(PIECES), places())
def test_how_the_text_is_cut_does_not_matter(text: str, places: list[int]) -> None:
    assert_cut_does_not_matter(lambda: parser_of(HARMONY), text, places)
