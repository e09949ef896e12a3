"""What the prefix cache costs the host, and what it gains.

    python -m benchmarks.bench_prefix [--tokens 100000] [--json FILE]

Cost: CPU time of finding a cached prompt, per 1,000 tokens, and of everything that happens to a long prompt between two
steps: its message read, checked and queued, its first step. Everybody else waits for that.
Gain: the demo model's throughput on prompts that share 90 % of their tokens, with prefix caching and without.
"""

from __future__ import annotations

import argparse
import os
import random
import socket
import threading
import time

from benchmarks.report import Row, add_report_option, report
from benchmarks.scripted_engine import build
from benchmarks.server_process import DEMO
from engine.build import build_engine
from engine.cache.block_manager import BlockManager
from engine.config import EngineConfig
from engine.messages import AddRequest
from engine.scheduling.sequence import Sequence
from engine.transport import Channel, frame
from engine.types import GenerationRequest, SamplingParams

BLOCK_SIZE = EngineConfig().block_size
TRACE_PROMPT = 512
TRACE_SHARED = TRACE_PROMPT * 9 // 10


def random_prompt(draw: random.Random, tokens: int, vocab_size: int = 4096) -> tuple[int, ...]:
    """Token ids that share nothing with those of other prompts."""
    return tuple(draw.randrange(10, vocab_size) for _ in range(tokens))


def hit_seconds(tokens: int, repeat: int) -> float:
    """CPU time of taking all blocks of a cached prompt."""
    request = GenerationRequest("known", random_prompt(random.Random(0), tokens), SamplingParams(seed=0))
    blocks = BlockManager(tokens // BLOCK_SIZE + 2, BLOCK_SIZE)
    table: list[int] = []
    blocks.reserve(table, 0, tokens)
    blocks.index(Sequence(request, 0, 0, list(request.prompt_token_ids)).token_ids, table, 0, tokens)
    blocks.free(table)
    times = []
    for _ in range(repeat):
        again = Sequence(request, 0, 0, list(random_prompt(random.Random(0), tokens)))  # equal ids, other objects
        start = time.thread_time()
        table = blocks.take_prefix(again.token_ids)
        times.append(time.thread_time() - start)
        if len(table) != (tokens - 1) // BLOCK_SIZE:
            raise RuntimeError("The prompt was not found.")
        blocks.free(table)
    return min(times)


def admission_seconds(tokens: int, repeat: int) -> dict[str, float]:
    """CPU time of the engine for a long prompt, by part, until its first chunk has been computed."""
    core, _ = build(EngineConfig(model=str(DEMO)), 0.0)
    best: dict[str, float] = {}
    for run in range(repeat):
        prompt = random_prompt(random.Random(run), tokens)
        start = time.thread_time()
        message = frame(AddRequest(GenerationRequest(f"long-{run}", prompt, SamplingParams(seed=0)), time.monotonic()))
        framed = time.thread_time()
        request = _through_socket(message)
        read = time.thread_time()
        core.add(request)
        queued = time.thread_time()
        core.step()
        stepped = time.thread_time()
        core.abort(request.request_id)
        parts = {
            "framing it (server)": framed - start,
            "reading its message": read - framed,
            "checking and queueing it": queued - read,
            "its first step": stepped - queued,
        }
        best = {name: min(seconds, best.get(name, seconds)) for name, seconds in parts.items()}
    return best


def _through_socket(message: bytes) -> GenerationRequest:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=ours.sendall, args=(message,))
        sender.start()
        received = Channel(theirs).receive()
        sender.join()
    request: GenerationRequest = received.request
    return request


def trace_rate(requests: int, answer: int, *, prefix_caching: bool, threads: int) -> float:
    """Requests per second of the demo model where prompts share their first 90 %, eight at a time."""
    core, _ = build_engine(
        EngineConfig(
            model=str(DEMO), prefix_caching=prefix_caching, threads=threads, max_num_seqs=8, kv_cache_tokens=32768
        )
    )
    draw = random.Random(0)
    params = SamplingParams(max_tokens=answer, temperature=0.0, ignore_eos=True, seed=0)
    shared = random_prompt(draw, TRACE_SHARED)
    start = time.perf_counter()
    for index in range(requests):
        own = random_prompt(draw, TRACE_PROMPT - TRACE_SHARED)
        core.add(GenerationRequest(f"trace-{index}", shared + own, params))
    while core.has_work:
        core.step()
    return requests / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=100_000, help="tokens of the long prompt")
    parser.add_argument("--requests", type=int, default=64, help="requests of the trace")
    parser.add_argument("--answer", type=int, default=16, help="tokens of each answer of the trace")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="kernel threads")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the cheapest counts")
    add_report_option(parser)
    arguments = parser.parse_args()
    tokens = arguments.tokens
    trace = (arguments.requests, arguments.answer)
    rows = [Row("prefix hit, per 1,000 tokens", hit_seconds(tokens, arguments.repeat) * 1e9 / tokens, "us", 20.0)]
    parts = admission_seconds(tokens, arguments.repeat)
    rows.append(
        Row(f"engine stands still for a prompt of {tokens:,}", sum(list(parts.values())[1:]) * 1e3, "ms"),
    )
    rows += [Row(f"  {name}", seconds * 1e3, "ms") for name, seconds in parts.items()]
    rates = {
        caching: max(trace_rate(*trace, prefix_caching=caching, threads=arguments.threads) for _ in range(2))
        for caching in (True, False)
    }
    rows.append(
        Row("90 % shared prompts: requests/s ÷ without caching", rates[True] / rates[False], "", 2.5, at_least=True)
    )
    rows.append(Row("  with prefix caching", rates[True], "1/s"))
    rows.append(Row("  without", rates[False], "1/s"))
    report("prefix caching", rows, arguments.json)


if __name__ == "__main__":
    main()
