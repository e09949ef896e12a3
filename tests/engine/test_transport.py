"""Messages over a socket: whole, in order, and an end that is noticed."""

from __future__ import annotations

import asyncio
import fcntl
import pickle
import resource
import socket

import pytest

from engine.config import EngineConfig
from engine.errors import CheckpointError, ContextLengthError, InvalidRequestError, QuireError, RequestFailedError
from engine.messages import AbortRequest, AddRequest
from engine.revival import revive
from engine.transport import Channel, ChannelClosedError, frame, read_message
from tests.fakes.toy_engine import request, toy_model


def test_messages_arrive_whole_however_they_are_cut() -> None:
    messages = [AbortRequest("a"), AddRequest(request("b", range(50_000)), 1.5), AbortRequest("c")]
    data = b"".join(map(frame, messages))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(theirs)
        assert channel.receive_arrived() == []
        ours.sendall(data[:5])
        assert channel.receive_arrived() == []
        ours.setblocking(False)
        sent, arrived = 5, []
        while len(arrived) < 3:
            if sent < len(data):
                sent += ours.send(data[sent : sent + 30_000])
            arrived += channel.receive_arrived()
        assert arrived == messages
        ours.setblocking(True)
        ours.sendall(frame(messages[0]) + frame(messages[2]))
        assert channel.receive() == messages[0]
        assert channel.receive_arrived() == [messages[2]]


def test_any_number_of_open_files_will_do() -> None:
    ours, theirs = socket.socketpair()
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed[1] != resource.RLIM_INFINITY and allowed[1] <= 2000:
        pytest.skip("needs file descriptors above 1024")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2001, allowed[1]))
    try:
        high = socket.socket(fileno=fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, 2000))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, allowed)
    with ours, theirs, high:
        channel = Channel(high)
        assert channel.receive_arrived() == []
        ours.sendall(frame(AbortRequest("a")))
        assert channel.receive_arrived() == [AbortRequest("a")]


def test_the_end_is_noticed_on_both_sides() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(theirs)
    ours.close()
    for call in (channel.receive, channel.receive_arrived, lambda: channel.send(AbortRequest("a"))):
        with pytest.raises(ChannelClosedError):
            call()
    theirs.close()

    async def body() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(frame(AbortRequest("a")) + frame(AbortRequest("b"))[:-1])
        reader.feed_eof()
        assert await read_message(reader) == AbortRequest("a")
        with pytest.raises(ChannelClosedError):
            await read_message(reader)

    asyncio.run(body())


def test_everything_that_crosses_survives_pickling() -> None:
    for each in (request("a", [1], stop="x", logit_bias={3: 1.0}), toy_model(), EngineConfig(model="m")):
        assert pickle.loads(pickle.dumps(each, protocol=5)) == each


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("CheckpointError", CheckpointError),
        ("InvalidRequestError", InvalidRequestError),
        ("ContextLengthError", InvalidRequestError),
        ("InvalidLogitsError", RequestFailedError),
        ("ModelNotFoundError", QuireError),
        ("annotations", QuireError),
        ("SystemExit", QuireError),
    ],
)
def test_errors_come_back_as_their_class(kind: str, expected: type[QuireError]) -> None:
    error = revive(kind, "what was wrong")
    assert type(error) is expected
    assert str(error) == "what was wrong"
    assert not isinstance(error, ContextLengthError)
