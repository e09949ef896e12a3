from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.raw_client import Answer

STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = [b'data: {"a":1}\n\n', b'data: {"b":"data: x"}\n\n', b": ping\n\n", b"data: [DONE]\n\n"]
CHUNKED = STREAM + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in EVENTS) + b"0\r\n\r\n"
WHOLE = b'HTTP/1.1 429 Too Many Requests\r\nContent-Length: 14\r\n\r\n{"error":null}'


@given(st.sets(st.integers(1, len(CHUNKED) - 1)))
def test_a_stream_ends_with_its_last_byte_and_its_events_are_counted_however_it_is_cut(cuts: set[int]) -> None:
    answer = Answer()
    ends = [answer.feed(piece) for piece in _cut(CHUNKED, cuts)]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert (answer.ok, answer.events) == (True, 2)


@given(st.sets(st.integers(1, len(WHOLE) - 1)))
def test_a_body_of_known_length_ends_with_its_last_byte(cuts: set[int]) -> None:
    answer = Answer()
    ends = [answer.feed(piece) for piece in _cut(WHOLE, cuts)]
    assert ends == [False] * (len(ends) - 1) + [True]
    assert (answer.ok, answer.events) == (False, 0)


def _cut(data: bytes, cuts: set[int]) -> Iterator[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(edges):
        yield data[start:end]
