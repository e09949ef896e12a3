"""Filler says nothing, has the same number of tokens, and begins alike where the texts did."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.text.tokenizer import Tokenizer, load_tokenizer
from quire.demo_model import demo_model
from server.dumps.filler import Filler
from tests.fakes.text import write_model_text

DEMO = load_tokenizer(demo_model())
FILLER = Filler(DEMO)


def count(text: str, tokenizer: Tokenizer = DEMO) -> int:
    return len(tokenizer.encode(text, add_special_tokens=False))


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_the_number_of_tokens_is_kept(text: str) -> None:
    assert count(FILLER.text(text)) == count(text)


def test_it_is_kept_also_with_a_tokenizer_that_has_no_words(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_model_text(tmp_path))
    assert count(Filler(tokenizer).text("Grüße, 42!"), tokenizer) == count("Grüße, 42!", tokenizer)


def test_nothing_of_the_text_is_left_and_equal_beginnings_stay_equal() -> None:
    secret = "My password is Tr0ub4dor and nobody may know it."
    one, other = FILLER.text(secret + " Ever."), FILLER.text(secret + " Never.")
    shared = FILLER.text(secret)
    assert one.startswith(shared)
    assert other.startswith(shared)
    assert one != other
    assert FILLER.text(secret) == shared
    assert not any(character in shared for character in "MTI04.")  # it is made of small letters alone


def test_nothing_is_alike_behind_the_first_difference() -> None:
    tail = " and then the very same words follow for a while, again and again"
    one, other = (FILLER.text(first + tail).split()[-8:] for first in ("Yes", "No"))
    assert one != other


def test_what_stood_there_cannot_be_found_by_trying() -> None:
    assert Filler(DEMO).text("a short guess of a few words") != FILLER.text("a short guess of a few words")
    assert Filler(DEMO).name("guess") != FILLER.name("guess")


def test_token_ids_are_replaced_by_as_many() -> None:
    ids = FILLER.ids([5, 6, 7, 2**62])
    assert len(ids) == 4
    assert all(0 <= each < DEMO.vocab_size for each in ids)
    assert FILLER.ids([5, 6, 8])[:2] == ids[:2]


@pytest.mark.parametrize("text", ["", "\ud800"])
def test_texts_without_tokens(text: str) -> None:
    assert FILLER.text(text) in ("", "�")
