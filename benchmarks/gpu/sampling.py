"""Stage: sampling on this card: tokens against their exact definition, the same bits again and alone, and times.

Times are those of a captured graph that is replayed, so that the host's time does not count. `--small` checks a small
vocabulary and measures nothing, for compute-sanitizer.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.gpu.rows import hand_over, rows_option
from benchmarks.report import Row
from engine.ops.cuda_runtime import CudaRuntime, Runtime
from engine.sampling import device_reference
from engine.sampling.device_layout import RECORD
from engine.sampling.device_sampler import DeviceSampler
from engine.sampling.processors import process_logits
from engine.sampling.random import uniforms
from engine.scheduling.sequence import Sequence as Answer
from engine.types import GenerationRequest, SamplingParams

VOCABULARIES = (32000, 128256)
ROWS = (1, 16, 64)
SMALL = 5003
ROUNDS, CALLS = 7, 20

KINDS = {
    "greedy": SamplingParams(temperature=0),
    "drawn": SamplingParams(),
    "top-p": SamplingParams(temperature=0.7, top_p=0.95),
    "all cuts": SamplingParams(temperature=1.5, top_k=200, top_p=0.9, min_p=0.02),
    "flat": SamplingParams(temperature=100, top_p=0.5),
    "penalties": SamplingParams(temperature=0.8, repetition_penalty=1.3, frequency_penalty=0.2, logit_bias={5: 3.0}),
    "log-probabilities": SamplingParams(top_k=40, logprobs=20),
}


@dataclass(frozen=True, slots=True)
class Step:
    """A step's rows on the device.

    Attributes:
        logits: float32 [L, V].
        answers: the sequence of each row.
        tokens: int32 [L].
        records: uint8 [L, RECORD.itemsize].
        call: samples once; penalties count on from call to call.
    """

    logits: torch.Tensor
    answers: Sequence[Answer]
    tokens: torch.Tensor
    records: torch.Tensor
    call: Callable[[], None]


def answer(params: SamplingParams, number: int) -> Answer:
    """A sequence with a prompt of three tokens and an answer of two."""
    request = GenerationRequest(str(number), (5, 9, 11), replace(params, max_tokens=None))
    return Answer(request, 0, number, [5, 9, 11, 2, 2], arrival=number)


def step_of(runtime: Runtime, vocab: int, answers: Sequence[Answer], logits: torch.Tensor) -> Step:
    """Lay a step out, with a sampler of its own."""
    sampler = DeviceSampler(runtime, vocab, len(answers))
    inputs = sampler.parameters(answers)
    uploaded = torch.zeros(sampler.input_bytes(len(answers)), dtype=torch.uint8)
    uploaded[: len(inputs.data)] = torch.from_numpy(inputs.data)
    uploaded = uploaded.to(runtime.device)
    placed = logits.to(runtime.device)
    tokens = torch.zeros(len(answers), dtype=torch.int32, device=runtime.device)
    records = torch.zeros(len(answers), RECORD.itemsize, dtype=torch.uint8, device=runtime.device)

    def call() -> None:
        sampler.sample(placed, uploaded, tokens, records)

    for each in inputs.counts:
        sampler.load_counts(each.slot, torch.from_numpy(each.counts.view(np.int16)))
    return Step(placed, answers, tokens, records, call)


def defined_token(row: torch.Tensor, one: Answer) -> int:
    """The token that the definition gives."""
    logits = row.numpy().copy()
    process_logits(logits, one, ())
    if one.sampling.greedy:
        return int(logits.argmax())
    uniform = uniforms([one.seed], [one.choice], [one.num_tokens])
    return device_reference.draw_token(logits, one.sampling, float(uniform[0]))


def random_logits(rows: int, vocab: int) -> torch.Tensor:
    """Logits with a few likely tokens, and many equals."""
    logits = torch.randn(rows, vocab, generator=torch.Generator().manual_seed(vocab)) * 2.5
    logits[:, 3 : vocab // 2 : 5] = logits[:, 3:4]
    return logits


def check(runtime: Runtime, vocab: int, rows: int) -> list[Row]:
    """Every kind of row, mixed in one step."""
    kinds = list(KINDS.values())
    answers = [answer(kinds[row % len(kinds)], row) for row in range(rows)]
    logits = random_logits(rows, vocab)
    step = step_of(runtime, vocab, answers, logits)
    step.call()
    tokens, records = step.tokens.cpu(), step.records.cpu()
    expected = [defined_token(logits[row], one) for row, one in enumerate(answers)]
    name = f"sampling {rows} of {vocab}"
    found = [Row(f"{name}: tokens that are not as defined", _different(tokens.tolist(), expected), "tokens", 0)]
    again = step_of(runtime, vocab, answers, logits)
    again.call()
    last = step_of(runtime, vocab, answers[-1:], logits[-1:])
    last.call()
    changed = int((records != again.records.cpu()).sum()) + int((records[-1:] != last.records.cpu()).sum())
    return [*found, Row(f"{name}: bytes that differ when run again, or alone", changed, "bytes", 0)]


def measure(runtime: Runtime, vocab: int, rows: int, kind: str) -> list[Row]:
    """Time of one step in which all rows are of one kind, on the device alone."""
    answers = [answer(KINDS[kind], row) for row in range(rows)]
    step = step_of(runtime, vocab, answers, random_logits(rows, vocab))
    step.call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            step.call()
    times = []
    for _ in range(ROUNDS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(float(begin.elapsed_time(end)) * 1000 / CALLS)
    return [Row(f"sampling {rows} of {vocab}, {kind}: time", statistics.median(times), "µs")]


def check_and_measure(runtime: Runtime) -> Iterator[Row]:
    """Everything, times last."""
    for vocab, rows in itertools.product(VOCABULARIES, ROWS):
        yield from check(runtime, vocab, rows)
    for vocab, rows, kind in itertools.product(VOCABULARIES, ROWS, KINDS):
        yield from measure(runtime, vocab, rows, kind)


def _different(found: Sequence[int], expected: Sequence[int]) -> int:
    return sum(one != other for one, other in zip(found, expected, strict=True))


def main() -> int:
    """The command; 1 if a token is not as defined."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.sampling", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes and no times, for compute-sanitizer")
    rows_option(parser)
    options = parser.parse_args()
    runtime = CudaRuntime()
    if options.small:
        return hand_over(check(runtime, SMALL, 2 * len(KINDS)), options.json)
    return hand_over(check_and_measure(runtime), options.json)


if __name__ == "__main__":
    sys.exit(main())
