from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.text.detokenizer import Utf8Assembler

# mostly pieces of real characters, so that cuts inside them are common
_FRAGMENTS = st.one_of(st.binary(max_size=4), st.sampled_from(["é", "日", "🙂", "a"]).map(str.encode))
_BYTES = st.lists(st.one_of(_FRAGMENTS, _FRAGMENTS.map(lambda data: data[:-1])), max_size=12).map(b"".join)


@given(data=_BYTES, cuts=st.lists(st.integers(0, 40), max_size=12))
def test_any_cut_gives_the_same_text_as_decoding_the_whole(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assembler = Utf8Assembler()
    pieces = [assembler.feed(data[start:end]) for start, end in itertools.pairwise(edges)]
    assert "".join(pieces) + assembler.flush() == data.decode("utf-8", errors="replace")


@given(data=_BYTES)
def test_only_an_incomplete_character_is_held_back(data: bytes) -> None:
    assembler = Utf8Assembler()
    text = ""
    for index in range(len(data)):
        text += assembler.feed(data[index : index + 1])
        assert len(assembler.pending) <= 3
        assert text + assembler.pending.decode("utf-8", errors="replace") == data[: index + 1].decode(
            "utf-8", errors="replace"
        )
    assert data.endswith(assembler.pending)


def test_a_character_appears_with_its_last_byte() -> None:
    assembler = Utf8Assembler()
    assert [assembler.feed(bytes([byte])) for byte in "🙂".encode()] == ["", "", "", "🙂"]
    assert assembler.pending == b""


def test_an_invalid_byte_is_not_held_back() -> None:
    assembler = Utf8Assembler()
    assert assembler.feed(b"a\xff") == "a\ufffd"


def test_flush_reports_an_incomplete_character_once() -> None:
    assembler = Utf8Assembler()
    assert assembler.feed("日".encode()[:2]) == ""
    assert assembler.flush() == "\ufffd"
    assert assembler.flush() == ""
    assert assembler.feed(b"ok") == "ok"
