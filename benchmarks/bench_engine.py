"""Speed of the bare engine loop: no server, no second process.

    python -m benchmarks.bench_engine [MODEL] [--streams 1 8 32] [--tokens 128] [--prompt 64] [--threads N]

For each number of streams it prints tokens per second while prompts are computed and while answers are generated, and
what a generating step costs the host outside the forward pass: scheduling, building the input, sampling, emitting.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch

from benchmarks.machine import cpu_name
from engine.build import build_engine
from engine.config import EngineConfig
from engine.core import EngineCore
from engine.model.attention_protocol import Attention
from engine.model.forward_batch import ForwardBatch
from engine.model.transformer import Transformer
from engine.types import GenerationRequest, SamplingParams

DEMO = Path(__file__).resolve().parents[1] / "demo" / "quire-demo"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run. Rates in tokens per second, times in seconds."""

    streams: int
    prefill_rate: float
    decode_rate: float
    step_seconds: float
    host_seconds: float


@dataclass(slots=True)
class ForwardClock:
    """Time spent in forward passes while it is watched, in seconds."""

    seconds: float = 0.0

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Time every forward pass made meanwhile."""
        forward = Transformer.forward

        def timed(model: Transformer, batch: ForwardBatch, attention: Attention) -> torch.Tensor:
            start = time.perf_counter()
            logits = forward(model, batch, attention)
            self.seconds += time.perf_counter() - start
            return logits

        with mock.patch.object(Transformer, "forward", timed):
            yield


def measure(core: EngineCore, streams: int, prompt_tokens: int, params: SamplingParams) -> Measurement:
    """Run `streams` requests with different prompts side by side."""
    draw = random.Random(streams)
    for index in range(streams):
        prompt = tuple(draw.randrange(core.model.vocab_size) for _ in range(prompt_tokens))
        core.add(GenerationRequest(f"{streams}-{index}", prompt, params))
    start = time.perf_counter()
    generated_before = core.stats.generation_tokens_total
    while core.stats.generation_tokens_total - generated_before < streams:
        core.step()
    middle = time.perf_counter()
    generated_then, steps_then = core.stats.generation_tokens_total, core.stats.steps_total
    clock = ForwardClock()
    with clock.watch():
        while core.has_work:
            core.step()
    seconds = time.perf_counter() - middle
    steps = core.stats.steps_total - steps_then
    return Measurement(
        streams=streams,
        prefill_rate=streams * prompt_tokens / (middle - start),
        decode_rate=(core.stats.generation_tokens_total - generated_then) / seconds,
        step_seconds=seconds / steps,
        host_seconds=(seconds - clock.seconds) / steps,
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=str(DEMO), help="model directory (default: the embedded demo)")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="numbers of streams to try")
    parser.add_argument("--tokens", type=int, default=128, help="tokens each stream generates")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of each prompt")
    parser.add_argument("--threads", type=int, default=0, help="threads of the kernels; 0: as the engine chooses")
    parser.add_argument("--kernels", choices=("auto", "native", "torch"), default="auto", help="which kernels to use")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the fastest counts")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    config = EngineConfig(
        model=arguments.model,
        kernels=arguments.kernels,
        threads=arguments.threads,
        max_num_seqs=max(arguments.streams),
        prefix_caching=False,
    )
    core, model = build_engine(config)
    params = SamplingParams(temperature=arguments.temperature, max_tokens=arguments.tokens, ignore_eos=True, seed=0)
    print(f"machine   {cpu_name()} ({os.cpu_count()} logical CPUs), torch {torch.__version__}")
    print(f"model     {model.name}: {model.weight_format}, {model.bits_per_weight:.2f} bits per weight")
    print(f"kernels   {model.kernels}, {model.threads} threads")
    print(f"load      prompt {arguments.prompt}, {arguments.tokens} tokens, temperature {arguments.temperature}")
    print("streams   prefill tok/s   decode tok/s   step ms   host us per step")
    rates: dict[int, float] = {}
    for streams in arguments.streams:
        runs = [measure(core, streams, arguments.prompt, params) for _ in range(arguments.repeat)]
        best = max(runs, key=lambda run: run.decode_rate)
        rates[streams] = best.decode_rate
        print(
            f"{streams:7d} {best.prefill_rate:15.0f} {best.decode_rate:14.0f} {best.step_seconds * 1e3:9.3f} "
            f"{best.host_seconds * 1e6:18.0f}"
        )
    fewest, most = min(rates), max(rates)
    print(f"ratio     {rates[most] / rates[fewest]:.2f} times the throughput with {most} streams as with {fewest}")


if __name__ == "__main__":
    main()
