from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.parsing.python_literal import unescaped
from server.parsing.python_scanner import StringReader, ValueScanner, opening_quote
from tests.server.parsing.laws import cut, places

bodies = st.text(st.sampled_from("\\\\\"\\'uxUN{}dD8cC0109aAn \nb"), max_size=25)


def read(quote: str, pieces: list[str]) -> tuple[str, str, bool]:
    """What the string says, what is left of the text, and whether it has ended."""
    reader, said, held = StringReader(quote), "", ""
    for piece in pieces:
        held += piece
        while held and not reader.ended:
            more, used = reader.feed(held)
            said, held = said + more, held[used:]
            if not used:
                break
    return said, held, reader.ended


@given(bodies, st.sampled_from(["'", '"', "'''", '"""']), places())
def test_a_string_says_the_same_however_it_comes(body: str, quote: str, places: list[int]) -> None:
    text = body + quote + ", "

    whole = read(quote, [text])
    assert read(quote, cut(text, places)) == read(quote, list(text)) == whole


@given(st.text())
def test_what_python_prints_is_read_back(value: str) -> None:
    source = repr(value)

    assert read(source[0], [*source[1:], "}"]) == (value, "}", True)


@given(bodies.filter(lambda body: '"' not in body))
def test_the_whole_string_is_what_its_inside_means(body: str) -> None:
    said, _, ended = read('"""', list(f'{body}"""'))

    assert not ended or said == unescaped(body)


@pytest.mark.parametrize(
    ("text", "quote"),
    [("'", ""), ("''", ""), ("'''", "'''"), ("'',", "'"), ("'a", "'"), ('""" ', '"""'), ("a", None), ("", None)],
)
def test_the_quote_a_text_begins_with(text: str, quote: str | None) -> None:
    assert opening_quote(text) == quote


@pytest.mark.parametrize(
    "value",
    [
        "1",
        "[1, (2, 3)]",
        "{'a': \"),\"}",
        "f(x, [y])",
        "'''a,\n'b'),'''",
        "L'Aquila",
        "don't",
        "r'),'",
        "{'a]': '\\'),'}",
        "",
    ],
)
@pytest.mark.parametrize("behind", [", b=1", ")", "]"])
def test_a_value_ends_before_the_comma_or_bracket_behind_it(value: str, behind: str) -> None:
    for pieces in ([value + behind], list(value + behind)):
        scanner, held, taken = ValueScanner(), "", ""
        for piece in pieces:
            held += piece
            used = scanner.feed(held)
            taken, held = taken + held[:used], held[used:]
            if scanner.ended:
                break
        assert (taken, scanner.ended) == (value, True)
