"""Requests per CPU-second of server and engine together, with a model that answers one token and costs nothing.

    python -m benchmarks.bench_requests [--connections 8] [--requests 400] [--json FILE]

A raw client in a process of its own keeps its connections alive. CPU time is that of the server and the engine process.
"""

from __future__ import annotations

import argparse

from benchmarks.raw_client import load_from_elsewhere
from benchmarks.report import Row, add_report_option, report
from benchmarks.server_process import CpuTime, EngineServer

TARGET = 500.0
BODIES: dict[str, tuple[str, dict[str, object]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 1},
    ),
    "completion": ("/v1/completions", {"prompt": "The capital of France is", "max_tokens": 1}),
    "streamed chat": (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Where is Paris?"}], "max_tokens": 1, "stream": True},
    ),
}


def measure(
    served: EngineServer, path: str, body: dict[str, object], connections: int, requests: int
) -> tuple[int, CpuTime]:
    """Answers, and the CPU time they took."""
    before = served.cpu_time()
    load = load_from_elsewhere(served.port, path, connections, requests, body)
    return load.requests, served.cpu_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=8, help="requests in flight")
    parser.add_argument("--requests", type=int, default=400, help="requests of each connection")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the cheapest counts")
    parser.add_argument("--kinds", nargs="+", choices=BODIES, default=list(BODIES), help="which requests to send")
    add_report_option(parser)
    arguments = parser.parse_args()
    rows = []
    with EngineServer().ready() as served:
        for kind in arguments.kinds:
            path, body = BODIES[kind]
            measure(served, path, body, arguments.connections, 20)
            runs = [
                measure(served, path, body, arguments.connections, arguments.requests) for _ in range(arguments.repeat)
            ]
            answers, time = min(runs, key=lambda run: run[1].total / run[0])
            target = None if kind == "streamed chat" else TARGET
            rows.append(Row(f"{kind}: requests per CPU-second", answers / time.total, "1/s", target, at_least=True))
            rows.append(Row("  server, per request", time.server / answers * 1e6, "us"))
            rows.append(Row("  engine, per request", time.engine / answers * 1e6, "us"))
    report("requests per CPU-second", rows, arguments.json)


if __name__ == "__main__":
    main()
