from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.parsing.markers import Split, split_at_marker
from tests.server.parsing.laws import cut, places

MARKERS = ["<ab>", "<a", "b<c>", "<ab>>"]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("free", Split("free", None, "")),
        ("free <", Split("free ", None, "<")),
        ("free <call", Split("free ", None, "<call")),
        ("free <calm", Split("free <calm", None, "")),
        ("free <<call>x", Split("free <", "<call>", "x")),
        ("<call><call>", Split("", "<call>", "<call>")),
    ],
)
def test_holds_back_what_may_become_a_marker_and_nothing_else(text: str, split: Split) -> None:
    assert split_at_marker(text, ["<call>"]) == split


def test_the_longest_of_several_markers_counts_once_it_is_certain() -> None:
    assert split_at_marker("x<a", MARKERS) == Split("x", None, "<a")
    assert split_at_marker("x<a", MARKERS, ended=True) == Split("x", "<a", "")
    assert split_at_marker("x<ab>y", MARKERS) == Split("x", "<ab>", "y")


@given(st.text(alphabet="<>abc", max_size=20), places())
def test_markers_are_the_same_however_the_text_is_cut(text: str, cuts: list[int]) -> None:
    def found(pieces: list[str]) -> list[str]:
        result, held = [""], ""
        for number, piece in enumerate(pieces):
            held += piece
            ended = number == len(pieces) - 1
            while held:
                split = split_at_marker(held, MARKERS, ended=ended)
                result[-1] += split.text
                held = split.rest
                if split.marker is None:
                    break
                result += [split.marker, ""]
        return result

    assert found(cut(text, cuts)) == found([text])
    assert "".join(found([text])) == text
