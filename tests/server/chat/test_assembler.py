"""However the engine cuts its deltas, the pieces fold to the same answer."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.types import Finish, FinishReason, OutputDelta, TokenLogprob
from server.chat.assembler import ChoiceAssembler
from server.chat.pieces import Piece, WholeChoice

FINISH = Finish(FinishReason.STOP)

texts = st.text(max_size=12)
tokens = st.lists(st.binary(max_size=4), max_size=12) | texts.flatmap(
    lambda text: st.lists(st.integers(0, len(text.encode())), max_size=8).map(lambda cuts: cut(text.encode(), cuts))
)
cuts_of = st.lists(st.integers(0, 40), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def delta(data: bytes, logprobs: tuple[TokenLogprob, ...] | None = None, finish: Finish | None = None) -> OutputDelta:
    return OutputDelta("r", 0, (1,) * len(logprobs or ()), data, logprobs, 0, finish)


def assemble(deltas: list[OutputDelta]) -> tuple[list[Piece], WholeChoice]:
    assembler = ChoiceAssembler(0)
    pieces = [piece for each in deltas if (piece := assembler.feed(each)) is not None]
    whole = WholeChoice()
    for piece in pieces:
        whole.add(piece)
    assert assembler.finished
    return pieces, whole


@given(data=st.binary(max_size=30) | texts.map(str.encode), at=cuts_of)
def test_any_cut_of_the_bytes_gives_the_same_text(data: bytes, at: list[int]) -> None:
    pieces, whole = assemble([*(delta(part) for part in cut(data, at)), delta(b"", finish=FINISH)])
    assert "".join(whole.content) == data.decode("utf-8", "replace")
    assert whole.finish == FINISH
    assert all(piece.text or piece.finish for piece in pieces)


@given(tokens=tokens, at=cuts_of)
def test_any_coalescing_gives_the_same_text_and_logprobs(tokens: list[bytes], at: list[int]) -> None:
    entries = [TokenLogprob(rank, data, -float(rank), ()) for rank, data in enumerate(tokens)]
    places = [0, *sorted(min(place, len(entries)) for place in at), len(entries)]
    groups = [entries[start:end] for start, end in pairwise(places)]
    deltas = [delta(b"".join(entry.data for entry in group), tuple(group)) for group in groups]
    _, one_by_one = assemble([*(delta(e.data, (e,)) for e in entries), delta(b"", finish=FINISH)])
    _, coalesced = assemble([*deltas, delta(b"", finish=FINISH)])
    assert "".join(coalesced.content) == "".join(one_by_one.content) == b"".join(tokens).decode("utf-8", "replace")
    assert coalesced.logprobs == one_by_one.logprobs
    assert [placed.entry for placed in coalesced.logprobs] == entries


@given(text=texts, at=cuts_of)
def test_entries_travel_with_the_text_they_make(text: str, at: list[int]) -> None:
    tokens = [part for part in cut(text.encode(), at) if part]
    entries = [TokenLogprob(rank, data, -1.0, ()) for rank, data in enumerate(tokens)]
    pieces, whole = assemble([*(delta(e.data, (e,)) for e in entries), delta(b"", finish=FINISH)])
    shown = given_bytes = 0
    for piece in pieces:
        given_bytes += sum(len(placed.entry.data) for placed in piece.logprobs)
        shown += len(piece.text.encode())
        assert given_bytes >= shown  # no text without its entries
        if piece.logprobs and piece.text:
            last = piece.logprobs[-1].entry
            assert given_bytes - len(last.data) < shown  # no entry before any of its text
    content = "".join(whole.content)
    assert content == text
    for placed in whole.logprobs:
        before = b"".join(tokens[: placed.entry.token_id])
        assert content[: placed.offset] == before.decode("utf-8", "ignore")


def test_an_incomplete_character_at_the_end_is_shown() -> None:
    pieces, _ = assemble([delta(b"a\xe2\x98"), delta(b"", finish=FINISH)])
    assert [piece.text for piece in pieces] == ["a", "\ufffd"]
