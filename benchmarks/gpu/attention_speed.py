"""Stage: attention on this card. Decoding as a share of the copy bandwidth of the same run, prompts against torch's.

Figures are medians of rounds in which kernels and yardstick take turns. A share that misses its target is no failure of
the stage: it is what the run is there to find out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import partial

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.cases import attention_case
from benchmarks.gpu.program import Program, Wanted
from benchmarks.gpu.yardstick import LITTLE, Effort, Timed, captured, copying, median_seconds
from benchmarks.report import Row
from engine.ops.cuda_backend import CudaBackend

CONTEXTS = ((32, 2048, 0.75), (1, 32768, 0.75), (64, 1024, None))
"""Sequences, their length, and the share of copying that is aimed at."""

PROMPTS = ((2048, 2048), (8192, 8192), (512, 8192))
"""Tokens that are computed, and tokens in the cache once they are."""

Q_HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
"""Of an 8B model."""


def measure_decode(card: Card, effort: Effort, sequences: int, length: int, target: float | None) -> list[Row]:
    """One token of each of several sequences of one length; bytes are those of their keys and values."""
    backend = CudaBackend(card.runtime)
    case = attention_case(Q_HEADS, KV_HEADS, HEAD_DIM, [length] * sequences, None)
    placed = [(x.half() if x.is_floating_point() else x).to(card.device) for x in case.inputs]
    # a step takes no longer than the host needs to start one, so it is recorded, as the engine does it
    steps = captured(card, [partial(case.call, backend, placed)] * effort.calls)
    time, copy = median_seconds(card, effort, steps, copying(card, effort))
    rate = 2 * sequences * length * KV_HEADS * HEAD_DIM * 2 / time
    name = f"attention {sequences} x {length}"
    return [
        Row(f"{name}: bandwidth", rate / 1e9, "GB/s"),
        Row(f"{name}: share of copying", rate / (effort.copy_bytes / copy), "", target, at_least=True),
    ]


def measure_prompt(card: Card, effort: Effort, tokens: int, length: int) -> list[Row]:
    """The last tokens of a prompt over the paged cache; torch has keys and values in one piece."""
    backend = CudaBackend(card.runtime)
    case = attention_case(Q_HEADS, KV_HEADS, HEAD_DIM, [length], None, queries=tokens)
    placed = [(x.half() if x.is_floating_point() else x).to(card.device) for x in case.inputs]
    q, k, v = (
        torch.randn(1, heads, rows, HEAD_DIM, device=card.device).half()
        for heads, rows in ((Q_HEADS, tokens), (KV_HEADS, length), (KV_HEADS, length))
    )
    mask = None
    if tokens < length:
        mask = torch.ones(tokens, length, dtype=torch.bool, device=card.device).tril(length - tokens)

    def theirs() -> None:
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
        )

    time, yardstick = median_seconds(card, effort, Timed(lambda: case.call(backend, placed)), Timed(theirs))
    seen_positions = tokens * (2 * length - tokens + 1) / 2
    name = f"attention of {tokens} tokens over {length}"
    return [
        Row(f"{name}: speed", 4 * Q_HEADS * HEAD_DIM * seen_positions / time / 1e12, "TFLOP/s"),
        Row(f"{name}: speed, of torch's", yardstick / time, ""),
    ]


def measure(
    card: Card,
    effort: Effort,
    contexts: Sequence[tuple[int, int, float | None]] = CONTEXTS,
    prompts: Sequence[tuple[int, int]] = PROMPTS,
) -> Iterator[Row]:
    """All of it."""
    for sequences, length, target in contexts:
        yield from measure_decode(card, effort, sequences, length, target)
    for tokens, length in prompts:
        yield from measure_prompt(card, effort, tokens, length)


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    if wanted.small:
        return measure(card, LITTLE, contexts=((2, 20, 0.75),), prompts=((5, 20), (6, 6)))
    return measure(card, Effort())


PROGRAM = Program(__doc__, _rows, checks=False)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
