"""A reader who falls behind gets less deltas, not less text."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.delta_stream import DeltaStream, merge
from engine.errors import RequestFailedError
from engine.types import Finish, FinishReason, OutputDelta, Timings, TokenLogprob

LENGTH = Finish(FinishReason.LENGTH)


def delta(tokens: list[int], choice: int = 0, finish: Finish | None = None, logprobs: bool = True) -> OutputDelta:
    entries = tuple(TokenLogprob(token, bytes([token]), -1.0, ()) for token in tokens)
    return OutputDelta("a", choice, tuple(tokens), bytes(tokens), entries if logprobs else None, 3, finish)


@given(
    st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), max_size=3)), max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_any_reading_gives_the_same_choices(puts: list[tuple[int, list[int]]], reads: set[int]) -> None:
    async def body() -> dict[int, OutputDelta]:
        stream = DeltaStream(3)
        parts: dict[int, list[OutputDelta]] = {}

        async def read() -> None:
            read = await stream.read()
            assert len({each.choice for each in read}) == len(read)
            for each in read:
                parts.setdefault(each.choice, []).append(each)

        for number, (choice, tokens) in enumerate(puts):
            stream.put(delta(tokens, choice))
            if number in reads:
                await read()
        for choice in range(3):
            assert not stream.finished
            stream.put(delta([], choice, LENGTH))
        assert stream.finished
        await read()
        return {choice: merge(each) for choice, each in parts.items()}

    for choice, whole in asyncio.run(body()).items():
        assert whole == delta([token for each, tokens in puts if each == choice for token in tokens], choice, LENGTH)


def test_few_deltas_wait_however_many_come() -> None:
    stream = DeltaStream(1)
    for _ in range(5000):
        stream.put(delta([1]))
    assert len(stream._waiting[0]) < 20


def test_a_failure_comes_after_what_was_there_before_it_and_stays() -> None:
    async def body() -> None:
        stream = DeltaStream(1)
        stream.put(delta([1, 2], logprobs=False))
        stream.fail(RequestFailedError("no luck"))
        assert stream.finished
        assert await stream.read() == [delta([1, 2], logprobs=False)]
        for _ in range(2):
            with pytest.raises(RequestFailedError):
                await stream.read()

    asyncio.run(body())


def test_merging_keeps_what_is_known_of_the_time() -> None:
    early, late = Timings(1.0, 2.0, 0.0, 0), Timings(1.0, 2.0, 3.0, 1)
    first, middle, last = delta([1])._replace(timings=early), delta([2]), delta([3])._replace(timings=late)
    assert merge([first, middle]).timings == early
    assert merge([merge([first, middle]), delta([4])]).timings == early
    assert merge([first, middle, last]).timings == late


def test_a_reader_that_waits_gets_what_comes() -> None:
    async def body() -> None:
        stream = DeltaStream(1)
        for end in (lambda: stream.put(delta([1])), lambda: stream.fail(RequestFailedError("no luck"))):
            reading = asyncio.create_task(stream.read())
            await asyncio.sleep(0)
            assert not reading.done()
            end()
            if stream.finished:
                with pytest.raises(RequestFailedError):
                    await reading
            else:
                assert await reading == [delta([1])]

    asyncio.run(body())


def test_a_reader_that_gave_up_loses_nothing() -> None:
    async def body() -> None:
        stream = DeltaStream(1)
        reading = asyncio.create_task(stream.read())
        await asyncio.sleep(0)
        reading.cancel()
        stream.put(delta([1]))
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await stream.read() == [delta([1])]

    asyncio.run(body())


def test_merged_deltas_say_how_much_was_reasoning_by_the_last_of_them() -> None:
    parts = [delta([number])._replace(reasoning_tokens=count) for number, count in enumerate((1, 2, 2))]
    assert merge(parts).reasoning_tokens == 2
