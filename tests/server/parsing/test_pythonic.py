from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import GrammarKind
from server.parsing.base import Arguments, CallBegins, Content
from server.parsing.pythonic import PythonicFormat
from server.parsing.tool_format import Demand, Tool
from tests.engine.constraints.test_grammar import accepts
from tests.server.parsing.laws import assert_cut_does_not_matter, calls_in, events_of, places, texts
from tests.server.parsing.round_trip import assert_round_trip, read_back
from tests.server.parsing.sampling import Vocabulary
from tests.server.parsing.tools import TOOLS, calls_of, parser_of, values_of

PYTHONIC = PythonicFormat()
CALL = '[get_weather(city="Oslo", days=3)]'
PIECES = [
    CALL,
    "[",
    "]",
    "(",
    ")",
    ",",
    "get_weather(",
    "write_file(",
    "days=",
    "content=",
    "'",
    '"""',
    '"',
    "'a\\'b\\u00e9'",
    "\\",
    "{'a': [1, None]}",
    "-3",
    "x",
    " ",
    "\n",
    "<|python_start|>",
    "<|python_end|>",
    "Hello.",
    "x" * 150,
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    "text", [f"{CALL}", f"\n {CALL}\n", f"<|python_start|>{CALL}<|python_end|>", f"<|python_tag|>{CALL}"]
)
def test_a_call(text: str) -> None:
    assert events_of(parser_of(PYTHONIC), [text]) == [
        CallBegins("get_weather"),
        Arguments('{"city": "Oslo", "days": 3}'),
    ]


def test_several_calls() -> None:
    text = "[ get_time( ) , get_weather(days = 1,) , other.tool-2(x=[1]),]\n[get_time()]"
    assert values_of(PYTHONIC, text) == [
        ("get_time", {}),
        ("get_weather", {"days": 1}),
        ("other.tool-2", {"x": [1]}),
        ("get_time", {}),
    ]


def test_content_may_stand_behind_a_list_and_before_a_marker() -> None:
    assert events_of(parser_of(PYTHONIC), ["I look.<|python_start|>[get_time()]<|python_end|> Done."]) == [
        Content("I look."),
        CallBegins("get_time"),
        Arguments("{}"),
        Content(" Done."),
    ]


@given(st.dictionaries(st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True), values, max_size=4))
def test_what_python_prints_is_read_as_what_it_is(arguments: dict[str, object]) -> None:
    parser = PYTHONIC.parser([Tool("f.g", None)])
    text = f"[f.g({', '.join(f'{name}={value!r}' for name, value in arguments.items())})]"

    ((name, written),) = calls_in(events_of(parser, list(text)))
    assert name == "f.g"
    assert json.loads(written) == arguments


@given(st.text())
def test_texts_are_what_they_are(text: str) -> None:
    assert values_of(PYTHONIC, f"[write_file(content={text!r})]") == [("write_file", {"content": text})]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("days=-3", {"days": -3}),
        ("days='3'", {"days": 3}),
        ("alerts=True", {"alerts": True}),
        ("alerts='true'", {"alerts": True}),
        ("units=None", {"units": None}),
        ("city=12345", {"city": "12345"}),
        ("city='12345'", {"city": "12345"}),
        ("places=[{'name': 'Bærum', 'at': (59.9, 10.5)}]", {"places": [{"name": "Bærum", "at": [59.9, 10.5]}]}),
        ('"Oslo", 3', {"city": "Oslo", "days": 3}),
        ("city=Oslo", {"city": "Oslo"}),
        ("city=L'Aquila, days=1", {"city": "L'Aquila", "days": 1}),
        ("days=one + two", {"days": "one + two"}),
        ("city='Os' 'lo'", {"city": "Oslo"}),
        ("city=r'a\\n'", {"city": "a\\n"}),
        ("city='it's here', days=1", {"city": "it's here", "days": 1}),
        ('city="say "hi" now"', {"city": 'say "hi" now'}),
        ("city='''a\n'b'\n'''", {"city": "a\n'b'\n"}),
        ("city=''", {"city": ""}),
        ("city='a', city='b'", {"city": "a"}),
    ],
)
def test_arguments(argument: str, value: object) -> None:
    assert values_of(PYTHONIC, f"[get_weather({argument})]") == [("get_weather", value)]


def test_a_bracket_that_is_forgotten_does_no_harm() -> None:
    assert values_of(PYTHONIC, '[get_weather(city="Oslo"]') == [("get_weather", {"city": "Oslo"})]


def test_a_long_text_goes_out_as_it_comes() -> None:
    parser = parser_of(PYTHONIC)

    assert parser.feed('[write_file(content="def f') == [CallBegins("write_file"), Arguments('{"content": "def f')]
    assert parser.feed('():\\n  \\"x') == [Arguments('():\\n  \\"x')]
    assert parser.feed('"') == []
    assert parser.feed(")]") == [Arguments('"'), Arguments("}")]


@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "[1, 2, 3]",
        "[link](https://example.org)",
        "[unknown(x=1)]",
        "[get_time]",
        "[get_ti",
        "[",
        " \n",
        f"I call {CALL}",
        "get_time()",
        "<|python_start|>print(1)<|python_end|>",
        "<|python_start|>",
    ],
)
def test_text_that_is_no_call_stays_content(text: str) -> None:
    assert events_of(parser_of(PYTHONIC), [text]) == [Content(text)]


@pytest.mark.parametrize("length", range(len("[get_weather("), len(CALL)))
def test_a_call_that_is_cut_off_has_the_beginning_of_its_arguments(length: int) -> None:
    ((name, arguments),) = calls_of(PYTHONIC, CALL[:length])

    assert name == "get_weather"
    assert '{"city": "Oslo", "days": 3}'.startswith(arguments)


def test_a_cut_off_list_keeps_its_whole_calls() -> None:
    assert values_of(PYTHONIC, "[get_time(), ") == [("get_time", {})]


@pytest.mark.parametrize("special", [True, False])
def test_what_the_grammar_allows_is_read_back(special: bool) -> None:
    assert_round_trip(PYTHONIC, vocabulary=Vocabulary(PYTHONIC.markers if special else ()))


@pytest.mark.parametrize(
    ("answer", "allowed"),
    [
        ("[get_weather(days=3)]", True),
        ('[get_weather(city="Oslo", alerts=True, places=[{"a": null}]), get_time(a=1, b={})]', True),
        ('[get_weather(units="C")]', True),
        ("[get_weather(alerts=true)]", False),
        ("[get_weather(city='it\\'s \"here\"')]", True),
        ("[get_weather(city='it's')]", False),
        ('[get_weather(units="K")]', False),
        ("[get_weather(days='3')]", False),
        ("[unknown()]", False),
        ("[]", False),
        ("I do not know.", True),
        ("<b>[1, 2]", True),
        ("[1, 2]", False),
        ("", False),
        ("<|python_start|>[unknown()]", False),
        ("So: <|python_start|>print(1)", False),
    ],
)
def test_what_the_grammar_allows(answer: str, allowed: bool) -> None:
    grammar = PYTHONIC.grammar(TOOLS, Demand(required=False, parallel=True, special={}))

    assert accepts(GrammarKind.TREE, grammar, answer) == allowed


def test_the_grammar_holds_texts_to_what_their_schemas_ask() -> None:
    code = {"type": "string", "pattern": "^[a-z]{2,3}$"}
    tool = Tool("f", {"properties": {"code": code, "n": {"enum": [1, "1", None]}}, "required": ["code"]}, strict=True)
    demand = Demand(required=True, parallel=False, special={})
    grammar, vocabulary = PYTHONIC.grammar([tool], demand), Vocabulary()

    for seed in range(10):
        read_back(PYTHONIC, demand, vocabulary.answer(grammar, seed), [tool])
    assert accepts(GrammarKind.TREE, grammar, '[f(code="ab", n="1")]')
    assert not accepts(GrammarKind.TREE, grammar, '[f(code="abcd")]')
    assert not accepts(GrammarKind.TREE, grammar, "[f(code='abcd')]")


@pytest.mark.parametrize(
    ("required", "allowed", "refused"),
    [
        ("", ["", "a=1", "a=1, b=1, c=1", "b=1, c=1", "a=1, c=1"], ["a=1,", "b=1, a=1", "a=1b=1"]),
        ("b", ["b=1", "a=1, b=1", "b=1, c=1", "a=1, b=1, c=1"], ["", "a=1", "a=1, c=1", ", b=1"]),
        ("ac", ["a=1, c=1", "a=1, b=1, c=1"], ["a=1, b=1", "a=1, c=1, b=1"]),
    ],
)
def test_commas_stand_between_the_arguments_that_are_there(
    required: str, allowed: list[str], refused: list[str]
) -> None:
    parameters = {"properties": {name: {"const": 1} for name in "abc"}, "required": list(required)}
    grammar = PYTHONIC.grammar([Tool("f", parameters)], Demand(required=True, parallel=False, special={}))

    for arguments in allowed:
        assert accepts(GrammarKind.TREE, grammar, f"[f({arguments})]"), arguments
    for arguments in refused:
        assert not accepts(GrammarKind.TREE, grammar, f"[f({arguments})]"), arguments


@pytest.mark.parametrize("deep", ["[" * 20_000, "(" * 20_000, "-" * 20_000, "{1:" * 20_000, "a." * 20_000])
def test_deep_nesting_is_a_text(deep: str) -> None:
    ((_, arguments),) = calls_of(PYTHONIC, f"[get_weather(places={deep}")
    assert arguments == ""
    closing = {"[": "]", "(": ")", "{": "}"}.get(deep[0], "") * 20_000
    (call,) = calls_of(PYTHONIC, f"[get_weather(places={deep}{closing}, days=1)]")
    assert call[0] == "get_weather"


@given(texts(PIECES), places())
def test_how_the_text_is_cut_does_not_matter(text: str, places: list[int]) -> None:
    assert_cut_does_not_matter(lambda: parser_of(PYTHONIC), text, places)


@given(texts(PIECES), places())
def test_nor_within_a_call(text: str, places: list[int]) -> None:
    assert_cut_does_not_matter(lambda: parser_of(PYTHONIC), f"[write_file({text}", places)


@given(texts(PIECES))
def test_calls_that_are_followed_by_another_have_an_object_for_arguments(text: str) -> None:
    calls = calls_in(events_of(parser_of(PYTHONIC), [f"[write_file({text}"]))

    assert all(isinstance(json.loads(arguments), dict) for _, arguments in calls[:-1])
