"""Stage: bytes per second of the kernels on this card, as a share of the copy bandwidth measured in the same run.

Figures are medians of rounds in which kernels and yardstick take turns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.program import Program
from benchmarks.gpu.yardstick import LITTLE, Effort, captured, copying, median_seconds, reading
from benchmarks.report import Row
from engine.ops.cuda_backend import CudaBackend

TOKENS = (1, 64, 2048)


def compare(card: Card, effort: Effort, name: str, bytes_moved: int, call: Callable[[], object]) -> list[Row]:
    """A kernel's bandwidth, and its share of a copy's, taking turns with one."""
    time, copy = median_seconds(card, effort, captured(card, [call] * effort.calls), copying(card, effort))
    rate, copy_rate = bytes_moved / time, effort.copy_bytes / copy
    return [
        Row(f"{name}: bandwidth", rate / 1e9, "GB/s"),
        Row(f"{name}: share of copying", rate / copy_rate, ""),
    ]


def measure_elementwise(card: Card, effort: Effort, rows: int) -> list[Row]:
    """Norm and gate, shaped as in an 8B model."""
    backend = CudaBackend(card.runtime)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=card.device).half()

    x, weight, gate, up = random(rows, 4096), random(4096), random(rows, 14336), random(rows, 14336)
    normed, gated = torch.empty_like(x), torch.empty_like(gate)
    return [
        *compare(card, effort, f"rms_norm of {rows}", 2 * x.nbytes, lambda: backend.rms_norm(x, weight, 1e-5, normed)),
        *compare(card, effort, f"silu_mul of {rows}", 3 * gate.nbytes, lambda: backend.silu_mul(gate, up, gated)),
    ]


def measure(
    card: Card,
    effort: Effort,
    tokens: Sequence[int] = TOKENS,
) -> Iterator[Row]:
    """All of it, the yardsticks first."""
    copy, read = median_seconds(card, effort, copying(card, effort), reading(card, effort))
    yield Row("copying: bandwidth, read and written", effort.copy_bytes / copy / 1e9, "GB/s")
    yield Row("reading: bandwidth", effort.copy_bytes / 2 / read / 1e9, "GB/s")
    for each in tokens:
        yield from measure_elementwise(card, effort, each)


PROGRAM = Program(
    __doc__,
    lambda card, wanted: measure(card, LITTLE, tokens=(1,)) if wanted.small else measure(card, Effort()),
    checks=False,
)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
