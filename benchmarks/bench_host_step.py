"""What a decode step costs the host, with a model that costs nothing: scheduling, emission, messages both ways.

    python -m benchmarks.bench_host_step [--batches 1 64] [--steps 400] [--json FILE]

Counted is the CPU time of: the core's step, framing and pickling its output, and reading it again as the server does,
up to the streams its requests read from.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Row, add_report_option, report
from benchmarks.scripted_engine import build
from engine.config import EngineConfig
from engine.core import EngineCore
from engine.delta_stream import DeltaStream
from engine.transport import frame, read_message
from engine.types import GenerationRequest, SamplingParams

DEMO = Path(__file__).resolve().parents[1] / "demo" / "quire-demo"
TARGETS = {1: 150.0, 64: 600.0}
VARIANTS = {
    "plain": SamplingParams(max_tokens=None, seed=0),
    "5 logprobs": SamplingParams(max_tokens=None, seed=0, logprobs=5),
    "4 stop strings": SamplingParams(max_tokens=None, seed=0, stop=("\n\n", "###", "</s>", "User:")),
}


@dataclass(frozen=True, slots=True)
class StepCost:
    """CPU time of one step's parts, in seconds."""

    core: float
    encode: float
    receive: float

    @property
    def total(self) -> float:
        return self.core + self.encode + self.receive


async def step_once(core: EngineCore, streams: dict[str, DeltaStream], reader: asyncio.StreamReader) -> StepCost:
    """One step, from the scheduler to the streams."""
    start = time.thread_time()
    output = core.step()
    stepped = time.thread_time()
    data = frame(output)
    encoded = time.thread_time()
    reader.feed_data(data)
    event = await read_message(reader)
    for delta in event.deltas:
        streams[delta.request_id].put(delta)
    received = time.thread_time()
    for stream in streams.values():
        await stream.read()
    return StepCost(stepped - start, encoded - stepped, received - encoded)


async def measure(batch: int, sampling: SamplingParams, steps: int) -> StepCost:
    """The median of the steps once all requests decode."""
    core, _ = build(EngineConfig(model=str(DEMO), max_num_seqs=batch))
    streams = {}
    for index in range(batch):
        name = f"chatcmpl-{index:032x}/{index}"
        core.add(GenerationRequest(name, tuple(range(10, 42)), sampling))
        streams[name] = DeltaStream(1)
    reader = asyncio.StreamReader()
    while core.stats.generation_tokens_total < batch:
        core.step()
    costs = [await step_once(core, streams, reader) for _ in range(steps)]
    return sorted(costs, key=lambda cost: cost.total)[steps // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="numbers of sequences in decode")
    parser.add_argument("--steps", type=int, default=400, help="steps each median is taken of")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the cheapest counts")
    add_report_option(parser)
    arguments = parser.parse_args()
    rows = []
    for batch in arguments.batches:
        for name, sampling in VARIANTS.items():
            runs = [asyncio.run(measure(batch, sampling, arguments.steps)) for _ in range(arguments.repeat)]
            best = min(runs, key=lambda cost: cost.total)
            where = f"batch {batch}, {name}"
            target = TARGETS.get(batch) if name == "plain" else None
            rows.append(Row(f"host time of a step, {where}", best.total * 1e6, "us", target))
            rows += [Row(f"  {part}", getattr(best, part) * 1e6, "us") for part in ("core", "encode", "receive")]
    report("host time per decode step", rows, arguments.json)


if __name__ == "__main__":
    main()
