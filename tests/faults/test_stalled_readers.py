"""Clients that ask for a stream and do not read it."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

from benchmarks.server_process import PATIENCE, ServerProcess, eventually
from tests.faults.conftest import Serve

READERS = 50


def stalled_reader(server: ServerProcess, number: int) -> socket.socket:
    """A connection with two long answers on their way, most of a megabyte, of which nothing is read."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    address = urlsplit(server.url)
    connection.connect((address.hostname, address.port))
    fields = {"prompt": [3 + number], "max_tokens": 400, "ignore_eos": True, "logprobs": 20, "stream": True, "n": 2}
    body = json.dumps(fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


def test_they_delay_nobody_and_are_cut_off(serve: Serve) -> None:
    engine = {"kv_cache_tokens": 65536, "max_num_seqs": 256}
    with serve(engine, {"stall_timeout": 3}, behaviour="toy") as server:
        expected = server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"]
        stalled = [stalled_reader(server, number) for number in range(READERS)]
        try:
            for _ in range(5):
                assert server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"] == expected
            eventually(lambda: server.metric("request_unfinished_total") > 0)
            eventually(lambda: server.metric("num_requests_running") == server.metric("num_requests_waiting") == 0)
            eventually(lambda: server.metric("kv_cache_usage_perc") == 0)
            # the system may hold the whole answer for some, whom the server need not cut off
            assert 0 < server.metric("request_unfinished_total") <= sum(map(is_cut_off, stalled))
        finally:
            for connection in stalled:
                connection.close()
        assert server.complete([5, 6], max_tokens=20).json()["choices"][0]["text"] == expected


def is_cut_off(connection: socket.socket) -> bool:
    """Whether the other side has cut the connection before its answer was complete."""
    connection.settimeout(PATIENCE)
    data = b""
    try:
        while b"[DONE]" not in data[-100:]:
            if not (more := connection.recv(1 << 16)):
                return True
            data += more
    except ConnectionResetError:
        return True
    return False


def test_one_who_reads_slowly_gets_everything(serve: Serve) -> None:
    with serve(server={"stall_timeout": 300}, behaviour="toy") as server:
        connection = stalled_reader(server, 0)
        connection.settimeout(PATIENCE)
        data = b""
        while b"[DONE]" not in data[-100:]:
            data += connection.recv(3000)
        connection.close()
        assert server.metric("request_unfinished_total") == 0
