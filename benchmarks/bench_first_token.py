"""Time to the first token through HTTP over the model's own prefill of the same prompt, on an idle server.

    python -m benchmarks.bench_first_token [--words 100] [--requests 50] [--json FILE]

Both are the least of many: of what a bare engine core takes for the prompt, and of the time from a streamed request to
the first byte of its answer's body, which holds text. Prefix caching is off, so that every request computes its
prompt. The same request to a model that costs nothing shows what is added, without a difference of large numbers.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from benchmarks.raw_client import load_from_elsewhere
from benchmarks.report import Row, add_report_option, report
from benchmarks.server_process import DEMO, EngineServer
from engine.build import build_engine
from engine.config import EngineConfig
from engine.text.tokenizer import load_tokenizer
from engine.types import GenerationRequest, SamplingParams

TARGET_MS = 10.0


def prefill_seconds(prompt: tuple[int, ...], repeat: int, threads: int) -> float:
    """Least time of the bare core from a request to its first token."""
    core, _ = build_engine(EngineConfig(model=str(DEMO), prefix_caching=False, threads=threads))
    params = SamplingParams(max_tokens=1, temperature=0.0, seed=0)
    times = []
    for index in range(repeat):
        start = time.perf_counter()
        core.add(GenerationRequest(f"bare-{index}", prompt, params))
        while core.has_work:
            core.step()
        times.append(time.perf_counter() - start)
    return min(times)


def first_byte_seconds(served: EngineServer, body: dict[str, object], requests: int) -> float:
    """Least time through a server from a request to the first byte of its answer's body."""
    load_from_elsewhere(served.port, "/v1/completions", 1, 5, body)
    return min(load_from_elsewhere(served.port, "/v1/completions", 1, requests, body).first_event_seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, default=100, help="words of the prompt")
    parser.add_argument("--requests", type=int, default=50, help="requests each least is taken of")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="kernel threads")
    add_report_option(parser)
    arguments = parser.parse_args()
    text = "Once upon a time there was a small house by the sea. " * (arguments.words // 12 + 1)
    prompt = tuple(load_tokenizer(Path(DEMO)).encode(text, add_special_tokens=True))
    alone = prefill_seconds(prompt, arguments.requests, arguments.threads)
    body = {"prompt": list(prompt), "max_tokens": 1, "temperature": 0, "stream": True}
    settings = {"prefix_caching": False, "threads": arguments.threads}
    with EngineServer("engine.process", engine=settings).ready() as served:
        first = first_byte_seconds(served, body, arguments.requests)
    with EngineServer().ready() as served:
        added = first_byte_seconds(served, body, arguments.requests)
    report(
        f"first token of a prompt of {len(prompt)} tokens",
        [
            Row("time to first token over prefill", (first - alone) * 1e3, "ms", TARGET_MS),
            Row("  through HTTP", first * 1e3, "ms"),
            Row("  bare engine", alone * 1e3, "ms"),
            Row("  through HTTP, from a model that costs nothing", added * 1e3, "ms"),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
