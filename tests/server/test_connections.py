"""What connections cost, in virtual time and with an application that only reads bodies.

They are Unix sockets: what one side has sent the other can read at once, with no time between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import tempfile
from collections.abc import Awaitable, Callable

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from server.connections import MAX_HEAD_BYTES, SPARE_DESCRIPTORS, protocol_with_limits, raise_descriptor_limit
from tests.fakes.virtual_time import run

Connect = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]
Client = Callable[[Connect], Awaitable[None]]

WHOLE = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK"


async def read_and_answer(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "http"
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
    await asyncio.sleep(0.5)  # longer than the limit: what the application takes is no fault of the client's
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def serve(client: Client, stall_timeout: float = 0.2, descriptors: int = 1024) -> None:
    async def serving(path: str) -> None:
        loop, state = asyncio.get_running_loop(), ServerState()
        config = uvicorn.Config(read_and_answer, lifespan="off", log_config=None)
        config.load()
        protocol = protocol_with_limits(stall_timeout, descriptors)
        server = await loop.create_unix_server(lambda: protocol(config, state, {}), path)  # type: ignore[call-arg]
        async with server, asyncio.timeout(1000):
            await client(lambda: asyncio.open_unix_connection(path))

    with tempfile.TemporaryDirectory() as folder:  # not pytest's: the name of a socket must be short
        run(serving(f"{folder}/socket"))


async def is_cut(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read(1) == b""
    except ConnectionError:
        return True


@pytest.mark.parametrize(
    "sent",
    [b"", b"POST / HTTP/1.1\r\nHo", WHOLE.replace(b"Content-Length: 2", b"Content-Length: 3")],
    ids=["nothing", "half a head", "half a body"],
)
def test_who_does_not_go_on_with_a_request_is_cut_off(sent: bytes) -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(sent)
        assert await is_cut(reader)
        writer.close()

    serve(client)


def test_a_head_that_trickles_in_is_no_progress() -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\n")
        cut = asyncio.create_task(is_cut(reader))
        while not cut.done():
            writer.write(b"a: b\r\n")
            await asyncio.sleep(0.05)
        assert cut.result()
        writer.close()

    serve(client)


def test_a_slow_body_and_a_slow_answer_are_waited_for() -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
        for _ in range(12):
            writer.write(b" ")
            await asyncio.sleep(0.1)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
        writer.write(WHOLE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(OK)
        writer.close()

    serve(client, 0.4)


def test_endless_headers_are_refused() -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (MAX_HEAD_BYTES // 6 + 1))
        assert (await reader.readline()).startswith(b"HTTP/1.1 400")
        writer.close()

    serve(client, 30)


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02", b"FOO / HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n"]
)
def test_what_is_no_http_is_answered_in_the_form_of_all_errors(sent: bytes) -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(sent)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
        writer.close()

    serve(client)


def test_a_large_body_is_no_large_head() -> None:
    async def client(connect: Connect) -> None:
        reader, writer = await connect()
        size = 4 * MAX_HEAD_BYTES
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b" " * size)
        assert (await reader.readline()).startswith(OK)
        writer.close()

    serve(client, 30)


def test_connections_leave_descriptors_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    async def client(connect: Connect) -> None:
        held = [await connect() for _ in range(2)]
        further = [await connect() for _ in range(5)]
        for reader, _ in further:
            assert await is_cut(reader)
        held[0][1].write(WHOLE)
        assert (await held[0][0].readline()).startswith(OK)
        for _, writer in (*held, *further):
            writer.close()

    with caplog.at_level(logging.ERROR):
        serve(client, 30, SPARE_DESCRIPTORS + 2)
    assert sum("ulimit -n" in line for line in caplog.messages) == 1


def test_the_limit_of_descriptors_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 256
        assert raise_descriptor_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
