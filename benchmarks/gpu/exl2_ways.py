"""Stage: which way of multiplying with EXL2 matrices is the quickest on this card.

One row through q, k and v in one launch, against one by one. And many rows through the kernel for them, which is not in
use until this has shown where it should be, against the way in use and against torch's float16.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.exl2_speed import MIX, dense_products, random_matrix
from benchmarks.gpu.program import Program, Wanted
from benchmarks.gpu.yardstick import LITTLE, Effort, captured, median_seconds
from benchmarks.report import Row
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_exl2_matrix import MANY_ROWS_CAPABILITY, CudaExl2Matrix, Exl2Workspace
from engine.ops.cuda_exl2_product import Exl2Product

TOGETHER = ((4096, 4096), (4096, 1024), (4096, 1024))
"""Inputs and outputs of q, k and v of an 8B model."""

LARGE_SHAPE = (4096, 28672)
MANY_ROWS = (48, 64, 96, 128, 192, 256, 384, 512, 1024, 2048)
COPIES = 4
"""Of the large matrix: they take turns, and do not fit into a cache together."""


def measure_together(card: Card, effort: Effort, shapes: Sequence[tuple[int, int]]) -> list[Row]:
    """One row through several matrices with the same inputs."""
    backend = CudaBackend(card.runtime)
    tensors = [random_matrix(shape, MIX) for shape in shapes]
    tensors = [replace(each, q_invperm=tensors[0].q_invperm) for each in tensors]
    size = sum(each.q_weight.nbytes for each in tensors)
    layers = [[backend.prepare_exl2(each) for each in tensors] for _ in range(1 + effort.rotated_bytes // size)]
    x = torch.randn(1, shapes[0][0], device=card.device).half()
    outs = [torch.empty(1, shape[1], dtype=torch.float16, device=card.device) for shape in shapes]
    groups = [group for layer in layers if (group := backend.prepare_group(layer)) is not None]
    together = captured(card, [partial(group, x, outs) for group in groups])
    apart = [partial(kernel, x, out) for layer in layers for kernel, out in zip(layer, outs, strict=True)]
    one, single = median_seconds(card, effort, together, captured(card, apart))
    return [
        Row("EXL2 q, k and v together, 1 row: time", one * 1e6, "µs"),
        Row("EXL2 q, k and v one by one, 1 row: of that", len(shapes) * single / one, "times"),
    ]


def measure_many_rows(card: Card, effort: Effort, shape: tuple[int, int], all_rows: Sequence[int]) -> Iterator[Row]:
    """Where the kernel for many rows meets the other ways."""
    always = Exl2Workspace(card.runtime, torch.float16, many_rows=range(max(all_rows) + 1))
    workspaces = (always, Exl2Workspace(card.runtime, torch.float16))
    tensors = random_matrix(shape, MIX)
    ways = [
        [Exl2Product(each, [CudaExl2Matrix(each, tensors)]).multiply_ordered for _ in range(COPIES)]
        for each in workspaces
    ]
    for rows in all_rows:
        x = torch.randn(rows, shape[0], device=card.device).half()
        out = torch.empty(rows, shape[1], dtype=torch.float16, device=card.device)
        products = [captured(card, [partial(multiply, x, [out]) for multiply in way]) for way in ways]
        many, now, dense = median_seconds(card, effort, *products, dense_products(card, effort, shape, rows))
        label = f"EXL2 4 and 5 bit, {shape[0]} x {shape[1]}, {rows} rows by the kernel for many"
        yield Row(f"{label}: time", many * 1e6, "µs")
        yield Row(f"{label}: the way in use", now / many, "times")
        target = 0.9 if rows >= 256 else None
        yield Row(f"{label}: torch's float16", dense / many, "times", target, at_least=True)
        card.free_bytes()  # gives back what nobody uses


def measure(
    card: Card,
    effort: Effort,
    together: Sequence[tuple[int, int]] = TOGETHER,
    large: tuple[int, int] = LARGE_SHAPE,
    all_rows: Sequence[int] = MANY_ROWS,
) -> Iterator[Row]:
    """Both; the second on devices that have the kernel."""
    yield from measure_together(card, effort, together)
    if card.capability == MANY_ROWS_CAPABILITY:
        yield from measure_many_rows(card, effort, large, all_rows)


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    if wanted.small:
        return measure(card, LITTLE, together=((128, 64), (128, 32)), large=(128, 64), all_rows=(3, 65))
    return measure(card, Effort())


PROGRAM = Program(__doc__, _rows, checks=False)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
