"""Replays recorded arrivals against a server, scaled to what the machine and the model can do.

    python -m benchmarks.replay_trace TRACE [--speed 2.5] [--requests 300] [--model DIRECTORY] [--json FILE]
                                      [-- OPTIONS]

TRACE is an Azure LLM inference trace or a Mooncake trace, see `benchmarks/traces.py`; OPTIONS go to `quire serve`.
Lengths are multiplied by one factor, so that most requests fit the model's context; the rest is cut. Without `--speed`
the requests come over a minute. Printed are throughput, times to the first text, gaps between tokens, prefix hits,
preemptions and refusals.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx

from benchmarks.asking import Question, Reply, ask
from benchmarks.report import Row, add_report_option, report
from benchmarks.server_process import DemoServer, ServerProcess, summed
from benchmarks.soak.verdict import percentile
from benchmarks.traces import Arrival, length_factor, prompt_of, read_trace, scaled

USUAL_SECONDS = 60.0
"""Over which the requests come where no speed is given."""

ANSWER_SECONDS = 600.0


@dataclass(slots=True)
class Replay:
    """What came of a replay. Times in seconds.

    Attributes:
        seconds: from the first request to the end of the last answer.
        prompt_tokens: of the requests that were answered.
        answer_tokens: of their answers.
        cached_tokens: of their prompts, found in the cache.
        first: from when a request was due to the first text of its answer.
        gaps: between texts of a stream.
        late: how much later than due a request was sent.
        outcomes: `answered`, or status and code.
        preemptions: of the engine.
        most_running: sequences in one step, as seen now and then.
        most_waiting: sequences that wait.
    """

    seconds: float = 0.0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0
    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    preemptions: int = 0
    most_running: float = 0.0
    most_waiting: float = 0.0

    def add(self, due: float, reply: Reply) -> None:
        """Count a reply to a request that was due at a moment of `time.monotonic`."""
        self.late.append(reply.started - due)
        if reply.answer is None:
            self.outcomes[f"{reply.status} {reply.code}"] += 1
            return
        self.outcomes["answered"] += 1
        self.prompt_tokens += reply.answer.prompt_tokens
        self.answer_tokens += reply.answer.completion_tokens
        self.cached_tokens += reply.cached_tokens
        self.first += [moment - due for moment in reply.arrivals[:1]]
        self.gaps += [now - before for before, now in pairwise(reply.arrivals)]


async def replay(server: ServerProcess, arrivals: Sequence[Arrival]) -> Replay:
    """Send every request when it is due and wait for all answers."""
    result = Replay()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(base_url=server.url, timeout=ANSWER_SECONDS, limits=limits) as client:
        begun = time.monotonic()

        async def one(number: int, arrival: Arrival) -> None:
            question = _question(arrival, number)
            due = begun + arrival.at
            await asyncio.sleep(due - time.monotonic())
            result.add(due, await ask(client, question, stream=True))

        watching = asyncio.create_task(_watch(client, result))
        await asyncio.gather(*(one(number, arrival) for number, arrival in enumerate(arrivals)))
        result.seconds = time.monotonic() - begun
        watching.cancel()
    result.preemptions = int(server.metric("num_preemptions_total"))
    return result


def _question(arrival: Arrival, number: int) -> Question:
    fields = {"max_tokens": arrival.answer_tokens, "temperature": 0, "ignore_eos": True}
    return Question("trace", "/v1/completions", {"prompt": prompt_of(arrival, number), **fields})


async def _watch(client: httpx.AsyncClient, result: Replay) -> None:
    while True:
        figures = summed((await client.get("/metrics")).text)
        result.most_running = max(result.most_running, figures["num_requests_running"])
        result.most_waiting = max(result.most_waiting, figures["num_requests_waiting"])
        await asyncio.sleep(0.25)


def rows(result: Replay) -> list[Row]:
    """The figures of a replay."""
    found = [
        Row("generated", result.answer_tokens / result.seconds, "tokens/s"),
        Row("prompts", result.prompt_tokens / result.seconds, "tokens/s"),
        Row("prompt tokens found in the cache", 100 * result.cached_tokens / max(1, result.prompt_tokens), "%"),
    ]
    for name, values in (("first text", result.first), ("gap between tokens", result.gaps)):
        found += [Row(f"{name}, p{share:g}", percentile(values, share / 100) * 1e3, "ms") for share in (50, 90, 99)]
    found += [Row(f"requests: {name}", count, "") for name, count in sorted(result.outcomes.items())]
    return [
        *found,
        Row("preemptions", result.preemptions, ""),
        Row("most sequences running", result.most_running, ""),
        Row("most sequences waiting", result.most_waiting, ""),
        Row("sent later than due, p99", percentile(result.late, 0.99) * 1e3, "ms"),
    ]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay_trace",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("trace", type=Path, help="file of an Azure or Mooncake trace")
    parser.add_argument("--speed", type=float, help="seconds of the trace per second")
    parser.add_argument("--requests", type=int, default=300, help="how many, from the start (default: 300)")
    parser.add_argument("--model", help="model to serve (default: the embedded demo)")
    parser.add_argument("options", nargs="*", help="further options of quire serve, after --")
    add_report_option(parser)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    trace = read_trace(arguments.trace)[: arguments.requests]
    speed = arguments.speed or max(trace[-1].at, 1.0) / USUAL_SECONDS
    with DemoServer(*([arguments.model] if arguments.model else []), *arguments.options) as server:
        server.ready()
        context = httpx.get(f"{server.url}/v1/models").json()["data"][0]["max_model_len"]
        factor = length_factor(trace, context)
        arrivals = [scaled(each, factor, speed, context) for each in trace]
        cut = sum(round(factor * (each.prompt_tokens + each.answer_tokens)) > context for each in trace)
        print(f"{len(arrivals)} requests, lengths times {factor:.3g}, {cut} cut to fit; {speed:.3g} times as fast")
        result = asyncio.run(replay(server, arrivals))
    scale = [Row("lengths multiplied by", factor, ""), Row("speed", speed, ""), Row("requests cut to fit", cut, "")]
    report("replay_trace", [*scale, *rows(result)], arguments.json)


if __name__ == "__main__":
    main()
