"""Streaming at 64 streams: throughput beside that of the bare engine, and what a token costs the server.

    python -m benchmarks.bench_streams [--streams 64] [--tokens 512] [--step-ms 20] [--json FILE]

Paced: each step of a scripted model sleeps `--step-ms`, so every token is an event, a chunk and a write of its own;
beside it stands what a loop costs that only writes such chunks at this pace. Saturated: steps do not sleep, so the
server falls behind and sends several tokens at once. The load generator is a raw client in a process of its own.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from benchmarks.bare_stream import send_seconds
from benchmarks.raw_client import load_from_elsewhere
from benchmarks.report import Row, add_report_option, report
from benchmarks.scripted_engine import build
from benchmarks.server_process import DEMO, CpuTime, EngineServer
from engine.config import EngineConfig
from engine.types import GenerationRequest, SamplingParams

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Streaming:
    """One run through HTTP."""

    tokens: int
    seconds: float
    cpu: CpuTime
    events: int
    reads: int

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def server_us(self) -> float:
        """CPU time of the server per token."""
        return self.cpu.server / self.tokens * 1e6


def bare(streams: int, tokens: int, step_seconds: float) -> float:
    """Tokens per second of the engine core alone."""
    core, _ = build(EngineConfig(model=str(DEMO), max_num_seqs=streams), step_seconds)
    params = SamplingParams(max_tokens=tokens, seed=0)
    start = time.perf_counter()
    for index in range(streams):
        core.add(GenerationRequest(f"bare-{index}", tuple(range(10, 42)), params))
    while core.has_work:
        core.step()
    return streams * tokens / (time.perf_counter() - start)


def through_http(served: EngineServer, streams: int, tokens: int) -> Streaming:
    """The same through a server."""
    body = {"messages": [{"role": "user", "content": "Tell me a story."}], "max_tokens": tokens, "stream": True}
    before = served.cpu_time()
    load = load_from_elsewhere(served.port, CHAT, streams, 1, body)
    return Streaming(streams * tokens, load.seconds, served.cpu_time() - before, load.events, load.reads)


def rows_of(name: str, best: Streaming) -> list[Row]:
    """What explains a run."""
    return [
        Row(f"{name}: server CPU per token", best.server_us, "us", 10.0),
        Row("  engine CPU per token", best.cpu.engine / best.tokens * 1e6, "us"),
        Row("  tokens per event", best.tokens / best.events, ""),
        Row("  events per read of the client", best.events / best.reads, ""),
        Row("  tokens per second", best.rate, "1/s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="requests in flight")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of each answer")
    parser.add_argument("--step-ms", type=float, default=20.0, help="sleep of a step in the paced runs")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the best counts")
    add_report_option(parser)
    arguments = parser.parse_args()
    streams, tokens, settings = arguments.streams, arguments.tokens, {"max_num_seqs": arguments.streams}
    step_seconds = arguments.step_ms / 1000
    alone, paced, sending = [], [], []
    with EngineServer(step_ms=arguments.step_ms, engine=settings).ready() as served:
        through_http(served, streams, 16)
        for _ in range(arguments.repeat):  # in turns, so that a busy machine is busy for all of them
            alone.append(bare(streams, tokens, step_seconds))
            paced.append(through_http(served, streams, tokens))
            sending.append(send_seconds(streams, tokens // 4, step_seconds))
    with EngineServer(engine=settings).ready() as served:
        through_http(served, streams, 16)
        saturated = [through_http(served, streams, 4 * tokens) for _ in range(arguments.repeat)]
    ratio = max(run.rate for run in paced) / max(alone)
    report(
        f"{streams} streams",
        [
            Row(f"tokens/s through HTTP ÷ bare engine, {arguments.step_ms:g} ms steps", ratio, "", 0.95, at_least=True),
            *rows_of("paced", min(paced, key=lambda run: run.server_us)),
            Row("  writes alone, per token", min(sending) * 1e6, "us"),
            *rows_of("saturated", min(saturated, key=lambda run: run.server_us)),
        ],
        arguments.json,
    )


if __name__ == "__main__":
    main()
