"""Clients that break off, at any point of a request or its answer, over a raw socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

READ_SECONDS = 240.0
"""Longest wait for bytes that a client means to read; they come unless the server hangs."""


@dataclass(frozen=True, slots=True)
class Rudeness:
    """How a client misbehaves.

    Attributes:
        sends: share of the request it sends, 0 to 1.
        reads: bytes of the answer it reads before it loses interest, if that many come.
        lingers: seconds it then keeps the connection without reading from it.
        resets: whether it closes with a reset in place of a proper end.
        receive_buffer: bytes the system holds for it; 0 leaves that to the system.
    """

    sends: float = 1.0
    reads: int = 0
    lingers: float = 0.0
    resets: bool = False
    receive_buffer: int = 0


def draw_rudeness(draw: random.Random) -> Rudeness:
    """One way to be rude: half a request, half an answer, leaving at once or soon, or not reading for a while."""
    resets = draw.random() < 0.5
    match draw.randrange(4):
        case 0:
            return Rudeness(sends=draw.random(), lingers=draw.uniform(0, 0.2), resets=resets)
        case 1:
            return Rudeness(reads=int(10 ** draw.uniform(0, 4.3)), resets=resets)
        case 2:
            return Rudeness(lingers=10 ** draw.uniform(-4, 0), resets=resets)
        case _:
            return Rudeness(lingers=draw.uniform(0, 1), resets=resets, receive_buffer=4096)


def http_request(url: str, path: str, body: Mapping[str, Any]) -> bytes:
    """The bytes of a POST."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


async def be_rude(url: str, request: bytes, way: Rudeness) -> None:
    """Send a request, or part of it, and break off.

    Args:
        url: of the server's root.
        request: all bytes of the request.
        way: what to do with it.

    Raises:
        TimeoutError: bytes it wanted to read did not come.
    """
    loop = asyncio.get_running_loop()
    address = urlsplit(url)
    with socket.socket() as line, contextlib.suppress(ConnectionError):
        line.setblocking(False)
        if way.receive_buffer:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, way.receive_buffer)
        await loop.sock_connect(line, (address.hostname, address.port))
        await loop.sock_sendall(line, request[: int(len(request) * way.sends)])
        left = way.reads
        while left:
            data = await asyncio.wait_for(loop.sock_recv(line, left), READ_SECONDS)
            if not data:
                break
            left -= len(data)
        await asyncio.sleep(way.lingers)
        if way.resets:  # on, after 0 seconds: what is unsent and unread is dropped
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
