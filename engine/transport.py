"""Framing of messages between the client side and the engine process.

The channel is an anonymous socket pair: only parent and child hold its ends, so what arrives is ours and may be
pickled. A frame is the length of what follows, 8 bytes big-endian, and one pickled message of `engine/messages.py`.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("!Q")
_CHUNK = 1 << 16


class ChannelClosedError(ConnectionError):
    """The other side has closed its end, or is gone."""


def frame(message: Any) -> bytes:
    """The bytes of one message."""
    body = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(body)) + body


async def read_message(reader: asyncio.StreamReader) -> Any:
    """The next message of a stream.

    Raises:
        ChannelClosedError: the stream has ended.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        return pickle.loads(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise ChannelClosedError("The engine process has closed its channel.") from error


class Channel:
    """The child's end: blocking, with its own buffer so that everything that has arrived can be taken at once."""

    def __init__(self, connection: socket.socket) -> None:
        connection.set_inheritable(False)
        self._socket = connection
        self._buffer = bytearray()

    def send(self, message: Any) -> None:
        """Send one message; waits while the other side does not read.

        Raises:
            ChannelClosedError: the other side is gone.
        """
        try:
            self._socket.sendall(frame(message))
        except ConnectionError as error:
            raise ChannelClosedError("The parent process is gone.") from error

    def receive(self) -> Any:
        """The next message; waits for it.

        Raises:
            ChannelClosedError: the other side is gone.
        """
        while not self._complete():
            self._fill()
        return self._pop()

    def receive_arrived(self) -> list[Any]:
        """Every message that has arrived by now; does not wait.

        Raises:
            ChannelClosedError: the other side is gone.
        """
        while self._fill(socket.MSG_DONTWAIT):
            pass
        messages = []
        while self._complete():
            messages.append(self._pop())
        return messages

    def _fill(self, flags: int = 0) -> bool:
        """Take in some of what has arrived; False if there is nothing and the flags say not to wait."""
        try:
            data = self._socket.recv(_CHUNK, flags)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise ChannelClosedError("The parent process is gone.") from error
        if not data:
            raise ChannelClosedError("The parent process is gone.")
        self._buffer += data
        return True

    def _length(self) -> int:
        (length,) = _LENGTH.unpack_from(self._buffer)
        return int(length)

    def _complete(self) -> bool:
        return len(self._buffer) >= _LENGTH.size and len(self._buffer) >= _LENGTH.size + self._length()

    def _pop(self) -> Any:
        end = _LENGTH.size + self._length()
        message = pickle.loads(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return message
