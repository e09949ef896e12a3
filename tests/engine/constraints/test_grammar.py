"""Grammars on a vocabulary with every trap: several tokens of the same bytes, parts of characters, special tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine.constraints.grammar import GrammarCompiler, GrammarConstraint
from engine.errors import ConstraintError, InvalidRequestError
from engine.text.token_bytes import TokenBytes
from engine.types import MAX_GRAMMAR_BYTES, GrammarKind, GrammarSpec

BOS, EOS, PADDING = 0, 2, 3
FIRST_BYTE = 4
WORDS = [b'{"', b'":', b"ab", b"ab", b"</s>", "é".encode(), b"abc", b'}"', b"\n  "]
TABLE = [b"<s>", b"<unk>", b"</s>", b"", *(bytes([byte]) for byte in range(256)), *WORDS, b"", b""]
TOKENS = TokenBytes(TABLE, frozenset({BOS, 1}))  # the end token is not marked as special, as in careless checkpoints
COMPILER = GrammarCompiler(TOKENS, [EOS])

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def compiled(kind: GrammarKind, source: object = "") -> GrammarConstraint:
    text = source if isinstance(source, str) else json.dumps(source)
    return COMPILER.compile(GrammarSpec(kind, text)).constraint("r")


def allowed(constraint: GrammarConstraint) -> set[int]:
    bits = np.unpackbits(constraint.mask().view(np.uint8), count=len(TOKENS), bitorder="little")
    return {int(each) for each in np.flatnonzero(bits)}


def feed(constraint: GrammarConstraint, text: str) -> bool:
    """Take in a text byte by byte; whether all of it was allowed."""
    for byte in text.encode():
        if FIRST_BYTE + byte not in allowed(constraint):
            return False
        constraint.advance(FIRST_BYTE + byte)
    return True


def accepts(kind: GrammarKind, source: object, text: str) -> bool:
    constraint = compiled(kind, source)
    return feed(constraint, text) and (constraint.complete or EOS in allowed(constraint))


def refusal(kind: GrammarKind, source: object) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        compiled(kind, source)
    assert caught.value.param == "grammar"
    return caught.value.message


def viable(constraint: GrammarConstraint) -> set[int]:
    """The tokens whose bytes can follow, found byte by byte."""
    found = set()
    for token in range(len(TOKENS)):
        data = TOKENS.of(token)
        if not data or token in (BOS, 1, EOS):
            continue
        done = 0
        while done < len(data) and FIRST_BYTE + data[done] in allowed(constraint):
            constraint.advance(FIRST_BYTE + data[done])
            done += 1
        constraint.rewind(done)
        if done == len(data):
            found.add(token)
    return found


@pytest.mark.parametrize("text", ["", "{", '{"', '{"name": "', '{"name": "ab\\', '{"name":"x", "age": 1'])
def test_a_mask_has_every_token_that_can_follow_and_no_other(text: str) -> None:
    """Also where only one text can follow: how it is cut into tokens is the model's choice."""
    constraint = compiled(GrammarKind.JSON_SCHEMA, PERSON)
    assert feed(constraint, text)
    assert allowed(constraint) == viable(constraint)


def test_tokens_of_the_same_bytes_are_allowed_alike() -> None:
    constraint = compiled(GrammarKind.REGEX, "abc")
    assert {TOKENS.of(each) for each in allowed(constraint)} == {b"a", b"ab", b"abc"}
    assert len(allowed(constraint)) == 4


def test_special_tokens_and_padding_are_never_part_of_a_text() -> None:
    constraint = compiled(GrammarKind.REGEX, "(.|\\n)*")
    assert not {BOS, 1, PADDING, len(TOKENS) - 1} & allowed(constraint)
    assert EOS in allowed(constraint)
    # spelled by an ordinary token the text of the end token is text
    assert FIRST_BYTE + 256 + WORDS.index(b"</s>") in allowed(constraint)
    assert accepts(GrammarKind.REGEX, "x</s>y", "x</s>y")


def test_an_end_token_is_allowed_only_where_the_answer_may_end() -> None:
    constraint = compiled(GrammarKind.REGEX, "a+b?")
    assert EOS not in allowed(constraint)
    assert feed(constraint, "a")
    assert EOS in allowed(constraint)
    assert not constraint.complete
    assert feed(constraint, "b")
    assert constraint.complete


def test_stop_tokens_of_the_request_may_end_an_answer_too() -> None:
    constraint = COMPILER.compile(GrammarSpec(GrammarKind.REGEX, "a+")).constraint("r", [BOS, 200])
    assert not {BOS, 200} & allowed(constraint)
    assert feed(constraint, "a")
    assert {BOS, 200, EOS} <= allowed(constraint)


def test_a_model_without_end_tokens() -> None:
    compiler = GrammarCompiler(TokenBytes(TABLE, frozenset({0, 1, 2})), [])
    constraint = compiler.compile(GrammarSpec(GrammarKind.CHOICE, '["ab"]')).constraint()
    assert len(constraint.mask()) == -(-len(TABLE) // 32)
    assert feed(constraint, "ab")
    assert constraint.complete


def test_rewinding_undoes_steps_even_those_that_completed_the_answer() -> None:
    constraint = compiled(GrammarKind.JSON_SCHEMA, PERSON)
    masks = []
    text = '{"name": "é", "age": 12}'
    for byte in text.encode():
        masks.append(allowed(constraint))
        constraint.advance(FIRST_BYTE + byte)
    assert constraint.complete
    for count in (1, 3, len(masks) - 4):
        constraint.rewind(count)
        del masks[len(masks) - count + 1 :]
        assert allowed(constraint) == masks.pop()
        assert not constraint.complete
        masks.append(allowed(constraint))
        constraint.advance(FIRST_BYTE + text.encode()[len(masks) - 1])


def test_constraints_of_one_grammar_do_not_touch_each_other() -> None:
    grammar = COMPILER.compile(GrammarSpec(GrammarKind.CHOICE, '["ab", "cd"]'))
    one, other = grammar.constraint(), grammar.constraint()
    assert feed(one, "a")
    assert feed(other, "cd")
    assert feed(one, "b")


def test_a_token_outside_the_mask_ends_the_request() -> None:
    constraint = compiled(GrammarKind.CHOICE, ["ab"])
    constraint.advance(FIRST_BYTE + ord("x"))
    assert not constraint.complete
    with pytest.raises(ConstraintError) as caught:
        constraint.mask()
    assert caught.value.request_ids == ("r",)


def test_a_grammar_that_this_vocabulary_cannot_spell() -> None:
    compiler = GrammarCompiler(TokenBytes([b"</s>", b"a", b"b"], frozenset({0})), [0])
    with pytest.raises(InvalidRequestError):
        compiler.compile(GrammarSpec(GrammarKind.CHOICE, '["c"]'))
    constraint = compiler.compile(GrammarSpec(GrammarKind.CHOICE, '["ac"]')).constraint("r")
    constraint.advance(1)
    with pytest.raises(ConstraintError):
        constraint.mask()


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            PERSON,
            ['{"name":"x","age":1}', '{"name": "é\\n", "age": -3}'],
            ['{"name":"x"}', '{"age":1,"name":"x"}', "{}"],
        ),
        ({"enum": ["a", 1, None]}, ['"a"', "1", "null"], ["2", '"b"', "true"]),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 1}, ["[true]", "[true, false]"], ["[]", "[1]"]),
        (True, ["1", "[]", '{"a": null}'], ["", "tru"]),
        (
            {
                "$defs": {
                    "n": {"type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}, "additionalProperties": False}
                },
                "$ref": "#/$defs/n",
            },
            ['{"n": {"n": {}}}'],
            ['{"n": 1}', '{"m": {}}'],
        ),
        ({"type": "string", "pattern": "^a+$"}, ['"aa"'], ['"b"', '""']),
        ({"type": "integer", "minimum": 3, "maximum": 11}, ["3", "11"], ["2", "12", "3.5"]),
    ],
)
def test_json_schemas(schema: object, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(GrammarKind.JSON_SCHEMA, schema, text)] == []
    assert [text for text in bad if accepts(GrammarKind.JSON_SCHEMA, schema, text)] == []


def test_any_json_object() -> None:
    assert accepts(GrammarKind.JSON_OBJECT, "", '{"a": [1, {"b": null}], "c": "\\u0000"}')
    assert not accepts(GrammarKind.JSON_OBJECT, "", "[1]")
    assert not accepts(GrammarKind.JSON_OBJECT, "", "null")


def test_blanks_in_json_are_allowed_as_people_indent_and_not_without_end() -> None:
    value = {"name": "x", "age": 1}
    for indent in (None, 1, 2, 4, "\t"):
        assert accepts(GrammarKind.JSON_SCHEMA, PERSON, json.dumps(value, indent=indent))
    assert not accepts(GrammarKind.JSON_SCHEMA, PERSON, '{  "name":"x","age":1}')
    assert not accepts(GrammarKind.JSON_SCHEMA, PERSON, '{\n\n"name":"x","age":1}')
    assert not accepts(GrammarKind.JSON_SCHEMA, PERSON, '{"name":"x","age":1} ')


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"$ref": "https://example.com/schema"}, "https://example.com/schema"),
        ({"type": "string", "format": "idn-email"}, "idn-email"),
        ({"type": "text"}, "text"),
        ({"oneOf": [{"type": "string"}, {"minLength": 3}]}, "use anyOf"),
        ({"type": "object", "x-guidance": {"lenient": True}}, "x-guidance"),
        ({"type": "string", "pattern": "(?=a)b"}, "(?=a)b"),
        ({"enum": []}, "nothing is valid"),
        ({"enum": [float("inf")]}, "infinity"),
        ({"const": 1, "enum": [2]}, "nsatisfiable"),
        (False, "object"),
        ([], "object"),
        ("{", "JSON"),
    ],
)
def test_what_a_schema_cannot_ask_for_is_refused_by_name(schema: object, named: str) -> None:
    assert named in refusal(GrammarKind.JSON_SCHEMA, schema)


def test_schemas_of_too_much_depth_or_size() -> None:
    deep: object = {"type": "string"}
    for _ in range(100):
        deep = {"properties": {"a": deep}}
    assert "levels deep" in refusal(GrammarKind.JSON_SCHEMA, deep)
    with pytest.raises(InvalidRequestError, match="bytes"):
        GrammarSpec(GrammarKind.JSON_SCHEMA, " " * (MAX_GRAMMAR_BYTES + 1))


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("[0-9]{3}", ["123"], ["12", "1234", "abc"]),
        ("^a/b$", ["a/b"], ["a", "xa/b"]),
        (r"a\/b\\/c", ["a/b\\/c"], ["a/b/c"]),
        ("a\nb", ["a\nb"], ["ab"]),
        ("é|(?i)x", ["é", "X"], ["e"]),
    ],
)
def test_regular_expressions(pattern: str, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not accepts(GrammarKind.REGEX, pattern, text)] == []
    assert [text for text in bad if accepts(GrammarKind.REGEX, pattern, text)] == []


@pytest.mark.parametrize("pattern", ["", "()", "a(", "(?<=a)b", r"(a)\1"])
def test_regular_expressions_that_cannot_be_used(pattern: str) -> None:
    assert refusal(GrammarKind.REGEX, pattern)


def test_choices() -> None:
    choices = ["no", "not", "é\n", 'say "a" \\ b/', "no", "</s>"]
    for each in choices:
        assert accepts(GrammarKind.CHOICE, choices, each)
    for each in ("n", "nott", "é"):
        assert not accepts(GrammarKind.CHOICE, choices, each)


@pytest.mark.parametrize("choices", [[], [""], ["a", 1], "a", {"a": 1}])
def test_choices_that_are_none(choices: object) -> None:
    assert refusal(GrammarKind.CHOICE, json.dumps(choices))


def test_lark() -> None:
    source = 'start: greeting ", " NAME "!"\ngreeting: "Hello" | "Hi"\nNAME: /[A-Z][a-z]*/'
    assert accepts(GrammarKind.LARK, source, "Hi, Ann!")
    assert not accepts(GrammarKind.LARK, source, "Hi, ann!")


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ('start: "a" missing', "missing"),
        ('begin: "a"', "start"),
        ("", "start"),
        ("start: a\na[temperature=0.5]: /x+/", "temperature"),
        ("start: a\na[ max_tokens = 5 ]: /x+/", "max_tokens"),
        ('start: a "b"\na[stop=""]: /x+/', "stop"),
        ('%llguidance {"no_forcing": false}\nstart: "a"', "%llguidance"),
        ("start: <nothing>", "<nothing>"),
        ('start: %json {"type": "array", "uniqueItems": true}', "uniqueItems"),
        ("start: </s>", "empty answer"),
    ],
)
def test_lark_that_cannot_be_used(source: str, named: str) -> None:
    assert named in refusal(GrammarKind.LARK, source)
