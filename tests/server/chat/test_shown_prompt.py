"""Where the tokens of a prompt stand in its text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.types import PromptLogprob
from server.chat.shown_prompt import PromptView, place

HIDDEN = {0}


def tokens(*pieces: bytes) -> list[PromptLogprob]:
    """Those that begin with `<` are hidden ones."""
    return [PromptLogprob(0 if piece.startswith(b"<") else 1, piece, -1.0, ()) for piece in pieces]


@pytest.mark.parametrize(
    ("pieces", "text", "offsets"),
    [
        ([b"Once", b" upon"], "Once upon", [0, 4]),
        ([b"<s>", b"Once", b" upon"], "Once upon", [0, 0, 4]),  # added around the text
        ([b"<s>", b"Once"], "<s>Once", [0, 3]),  # spelled out in the text
        ([b"a", b"<|x|>", b"b"], "ab", [0, 1, 1]),
        ([b" Once", b" upon"], "Once upon", [0, 4]),  # the space a tokenizer puts in front
        ([b" Once"], " Once", [0]),
        (["é".encode()[:1], "é".encode()[1:], b"x"], "éx", [0, 0, 1]),
        ([b"hello", b" you", b"!"], "HELLO YOU!", [0, 5, 9]),  # changed: lengths count
        ([b"longer", b" than", b" it"], "short", [0, 5, 5]),
        ([], "", []),
    ],
)
def test_places(pieces: list[bytes], text: str, offsets: list[int]) -> None:
    assert place(tokens(*pieces), text, HIDDEN) == offsets


@given(
    pieces=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=3), max_size=8)
)
def test_tokens_that_are_whole_characters_are_found_where_they_stand(pieces: list[str]) -> None:
    text = "".join(pieces)
    offsets = place(tokens(*(piece.encode() for piece in pieces)), text, HIDDEN)
    ends = [*offsets[1:], len(text)]
    assert [text[start:end] for start, end in zip(offsets, ends, strict=False)] == pieces


def test_nothing_is_shown_unless_it_is_wanted() -> None:
    told = tokens(b"a", b"b")
    assert PromptView().show(told) is None
    assert PromptView().show(None) is None
    echoed = PromptView("ab", placed=0).show(told)
    assert echoed is not None
    assert (echoed.text, [each.offset for each in echoed.logprobs], echoed.listed) == ("ab", [0, 1], None)
    listed = PromptView(listed=0).show(told)
    assert listed is not None
    assert (listed.text, listed.logprobs, listed.listed) == ("", (), tuple(told))
