"""Stage: sampling on this card: tokens against their exact definition, and the same bits again and alone."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.program import Program, Wanted
from benchmarks.report import Row
from engine.constraints.base import TokenMask
from engine.ops.cuda_runtime import Runtime
from engine.sampling import device_reference
from engine.sampling.device_layout import RECORD, mask_words
from engine.sampling.device_sampler import DeviceSampler
from engine.sampling.processors import process_logits
from engine.sampling.random import uniforms
from engine.scheduling.sequence import Sequence as Answer
from engine.types import GenerationRequest, SamplingParams

VOCABULARIES = (32000, 128256)
ROWS = (1, 16, 64)
SMALL = 5003

LARGEST_ERROR = 1e-5
"""Of a log-probability."""

KINDS = {
    "greedy": SamplingParams(temperature=0),
    "drawn": SamplingParams(),
    "top-p": SamplingParams(temperature=0.7, top_p=0.95),
    "all cuts": SamplingParams(temperature=1.5, top_k=200, top_p=0.9, min_p=0.02),
    "flat": SamplingParams(temperature=100, top_p=0.5),
    "penalties": SamplingParams(
        temperature=0.8, repetition_penalty=1.3, frequency_penalty=0.2, presence_penalty=0.5, logit_bias={5: 3.0}
    ),
    "forbidden ends": SamplingParams(temperature=0, min_tokens=9, stop_token_ids=[3, 8, 13]),
    "mask": SamplingParams(temperature=0.9, top_p=0.9, logprobs=3),
    "log-probabilities": SamplingParams(top_k=40, logprobs=20),
}
MASKED = ("mask",)
"""Kinds whose tokens a constraint chooses from."""


class EveryThird:
    """A `TokenConstraint` that allows every third token.

    Args:
        vocab: tokens there are.
    """

    def __init__(self, vocab: int) -> None:
        allowed = np.zeros(32 * mask_words(vocab), np.uint8)
        allowed[:vocab:3] = 1
        self._mask = np.packbits(allowed, bitorder="little").view(np.uint32)

    @property
    def complete(self) -> bool:
        """As `TokenConstraint`; so are the others."""
        return False

    def is_free(self, ahead: int = 0) -> bool:  # noqa: ARG002
        return False

    def mask(self) -> TokenMask:
        return self._mask

    def advance(self, token_id: int) -> None:
        """Nothing changes."""

    def rewind(self, count: int) -> None:
        """Nothing changes."""


@dataclass(frozen=True, slots=True)
class Step:
    """A step's rows on the device.

    Attributes:
        logits: float32 [L, V].
        answers: the sequence of each row.
        tokens: int32 [L].
        records: uint8 [L, RECORD.itemsize].
        sampler: which it has for itself.
        call: samples once; penalties count on from call to call.
    """

    logits: torch.Tensor
    answers: Sequence[Answer]
    tokens: torch.Tensor
    records: torch.Tensor
    sampler: DeviceSampler
    call: Callable[[], None]


def answer(kind: str, number: int, vocab: int) -> Answer:
    """A sequence with a prompt of three tokens and an answer of two."""
    request = GenerationRequest(str(number), (5, 9, 11), replace(KINDS[kind], max_tokens=None))
    constraint = EveryThird(vocab) if kind in MASKED else None
    return Answer(request, 0, number, [5, 9, 11, 2, 2], arrival=number, constraint=constraint)


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
    return Step(placed, answers, tokens, records, sampler, call)


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
    kinds = list(KINDS)
    answers = [answer(kinds[row % len(kinds)], row, vocab) for row in range(rows)]
    logits = random_logits(rows, vocab)
    step = step_of(runtime, vocab, answers, logits)
    step.call()
    tokens, records = step.tokens.cpu(), step.records.cpu()
    expected = [defined_token(logits[row], one) for row, one in enumerate(answers)]
    name = f"sampling {rows} of {vocab}"
    found = [
        Row(f"{name}: tokens that are not as defined", _different(tokens.tolist(), expected), "tokens", 0),
        Row(f"{name}: error of log-probabilities", _logprob_error(step, logits, records), "", LARGEST_ERROR),
    ]
    again = step_of(runtime, vocab, answers, logits)
    again.call()
    last = step_of(runtime, vocab, answers[-1:], logits[-1:])
    last.call()
    changed = int((records != again.records.cpu()).sum()) + int((records[-1:] != last.records.cpu()).sum())
    return [*found, Row(f"{name}: bytes that differ when run again, or alone", changed, "bytes", 0)]


def _different(found: Sequence[int], expected: Sequence[int]) -> int:
    return sum(one != other for one, other in zip(found, expected, strict=True))


def _logprob_error(step: Step, logits: torch.Tensor, records: torch.Tensor) -> float:
    """The largest, of chosen tokens and of alternatives, against float64; they must be the likeliest."""
    largest = 0.0
    for row, sampled in enumerate(step.sampler.results(records.numpy(), step.answers)):
        if sampled.logprob is None:
            continue
        exact = logits[row].double().log_softmax(-1)
        likeliest = exact.topk(len(sampled.top)).values.tolist()
        pairs = [(sampled.logprob, float(exact[sampled.token_id]))]
        pairs += [(value, float(exact[token])) for token, value in sampled.top]
        pairs += [(value, best) for (_, value), best in zip(sampled.top, likeliest, strict=True)]
        largest = max(largest, *(abs(mine - theirs) for mine, theirs in pairs))
    return largest


def check_all(runtime: Runtime, vocabularies: Sequence[int], all_rows: Sequence[int]) -> Iterator[Row]:
    """Steps of every size."""
    for vocab, rows in itertools.product(vocabularies, all_rows):
        yield from check(runtime, vocab, rows)


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    if wanted.small:
        return check_all(card.runtime, (SMALL,), (2 * len(KINDS),))
    return check_all(card.runtime, VOCABULARIES, ROWS)


PROGRAM = Program(__doc__, _rows, checks=True)

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
