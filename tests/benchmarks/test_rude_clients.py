from __future__ import annotations

import asyncio
import random

from benchmarks.rude_clients import Rudeness, be_rude, draw_rudeness, http_request

REQUEST = http_request("http://127.0.0.1:1", "/v1/completions", {"prompt": "Hello"})


def seen(way: Rudeness) -> tuple[bytes, str]:
    """What a server that answers with many bytes gets from the client, and how the connection ends for it."""
    got = bytearray()
    end: asyncio.Future[str]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            got.extend(await reader.readexactly(int(len(REQUEST) * way.sends)))
            writer.write(b"x" * 100)
            while data := await reader.read(1000):
                got.extend(data)
            end.set_result("closed")
        except ConnectionResetError:
            end.set_result("reset")
        writer.close()

    async def go() -> str:
        nonlocal end
        end = asyncio.get_running_loop().create_future()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await be_rude(f"http://127.0.0.1:{port}", REQUEST, way)
            return await asyncio.wait_for(end, 300)

    how = asyncio.run(go())
    return bytes(got), how


def test_a_part_of_the_request() -> None:
    assert seen(Rudeness(sends=0.5, reads=100)) == (REQUEST[: len(REQUEST) // 2], "closed")


def test_a_reset_in_place_of_an_end() -> None:
    assert seen(Rudeness(reads=10, resets=True)) == (REQUEST, "reset")


def test_nothing_is_read() -> None:
    assert seen(Rudeness(lingers=0.01, receive_buffer=4096, resets=True)) == (REQUEST, "reset")


def test_chances_come_from_the_seed_and_reach_every_way() -> None:
    ways = [draw_rudeness(random.Random(seed)) for seed in range(200)]
    assert ways == [draw_rudeness(random.Random(seed)) for seed in range(200)]
    assert any(way.sends < 1 for way in ways)
    assert any(way.reads for way in ways)
    assert any(way.receive_buffer for way in ways)
    assert {way.resets for way in ways} == {True, False}
