"""The least that streaming can cost: a loop that only sends chunks of the usual size, paced as a model would."""

from __future__ import annotations

import socket
import threading
import time

from benchmarks.raw_client import DONE, load_from_elsewhere

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNK = b"100\r\ndata: {" + b"x" * 246 + b"\n\n\r\n"


def send_seconds(streams: int, events: int, step_seconds: float) -> float:
    """CPU time of the kernel and of a bare loop, per event sent to one of the streams of a raw client."""
    with socket.create_server(("127.0.0.1", 0), backlog=streams) as listener:
        port = listener.getsockname()[1]
        client = threading.Thread(target=load_from_elsewhere, args=(port, "/", streams, 1, {}))
        client.start()
        connections = [listener.accept()[0] for _ in range(streams)]
        for connection in connections:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(1 << 16)
            connection.sendall(HEAD)
        used = 0.0
        for _ in range(events):
            time.sleep(step_seconds)
            start = time.thread_time()
            for connection in connections:
                connection.send(CHUNK)
            used += time.thread_time() - start
        for connection in connections:
            connection.sendall(DONE)
        client.join()
        for connection in connections:
            connection.close()
    return used / (streams * events)
