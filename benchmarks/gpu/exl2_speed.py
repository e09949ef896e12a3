"""Stage: speed of EXL2 products on this card, against copying and against torch's float16 product of the same shape.

Every product reads another copy of its matrix, so many that they do not fit into the cache, and is replayed from a
graph, so that the host's time does not count. Bytes are those the matrix holds, and the activations, which come in
stored order, as the op before writes them in a model. Figures are medians of rounds in which all alternate.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.matrices import random_exl2
from benchmarks.gpu.program import Program, Wanted
from benchmarks.gpu.yardstick import LITTLE, Effort, Timed, captured, copying, median_seconds
from benchmarks.report import Row
from engine.ops.backend import GroupKernel
from engine.ops.cuda_backend import CudaBackend
from engine.ops.exl2 import WIDTHS, Exl2Tensors

SHAPES = ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096))
"""Inputs and outputs of the matrices of an 8B model: q, k and v together, o, gate and up together, down."""

Widths = Sequence[tuple[int, float]]

MIX = ((5, 0.1), (4, 0.9))
"""Widths and their shares of the rows, as at 4 bits for each weight."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GROUP_ROWS = 128
TARGETS = {16: 1.15, 32: 1.35}
"""Time for so many rows, of that for one."""


def random_matrix(shape: tuple[int, int], widths: Widths) -> Exl2Tensors:
    """An EXL2 matrix of random bits, with groups of GROUP_ROWS in these widths."""
    in_features, out_features = shape
    groups = in_features // GROUP_ROWS
    layout: list[tuple[int, int]] = []
    for width, share in widths:
        layout += [(width, GROUP_ROWS)] * min(round(share * groups), groups - len(layout))
    layout += [(widths[-1][0], GROUP_ROWS)] * (groups - len(layout))
    return random_exl2(layout, out_features, seed=in_features + out_features)


def copies(card: Card, effort: Effort, tensors: Exl2Tensors) -> list[GroupKernel]:
    """The matrix as often as it takes to fill `rotated_bytes`, each as layers have it: inputs come in its order."""
    backend = CudaBackend(card.runtime)
    first = backend.prepare_exl2(tensors)
    kernels = [first, *(backend.prepare_exl2(tensors) for _ in range(effort.rotated_bytes // first.nbytes))]
    groups = [backend.prepare_group([kernel]) for kernel in kernels]
    return [group for group in groups if group is not None]


def products(card: Card, groups: Sequence[GroupKernel], rows: int) -> tuple[Timed, int]:
    """Products with copies of a matrix, and the bytes of one."""
    first = groups[0].kernels[0]
    x = torch.randn(rows, first.in_features, device=card.device).half()
    out = torch.empty(rows, first.out_features, dtype=torch.float16, device=card.device)
    size = first.nbytes + x.nbytes + out.nbytes
    return captured(card, [partial(group, x, [out]) for group in groups]), size


def dense_products(card: Card, effort: Effort, shape: tuple[int, int], rows: int) -> Timed:
    """The same with float16 matrices, in torch."""
    size = 2 * shape[0] * shape[1]
    number = 1 + effort.rotated_bytes // size
    weights = [torch.randn(shape, device=card.device).half() * 0.02 for _ in range(number)]
    x = torch.randn(rows, shape[0], device=card.device).half()
    out = torch.empty(rows, shape[1], dtype=torch.float16, device=card.device)
    return captured(card, [partial(torch.mm, x, weight, out=out) for weight in weights])


def measure_one_row(card: Card, effort: Effort, shape: tuple[int, int], name: str, widths: Widths) -> list[Row]:
    """Bandwidth of one row's product, and its share of copying."""
    product, size = products(card, copies(card, effort, random_matrix(shape, widths)), 1)
    time, copy = median_seconds(card, effort, product, copying(card, effort))
    rate, copy_rate = size / time, effort.copy_bytes / copy
    label = f"EXL2 {name}, {shape[0]} x {shape[1]}, 1 row"
    return [
        Row(f"{label}: bandwidth", rate / 1e9, "GB/s"),
        Row(f"{label}: share of copying", rate / copy_rate, "", 0.75, at_least=True),
    ]


def measure_rows(
    card: Card, effort: Effort, shape: tuple[int, int], name: str, widths: Widths, dense: Mapping[int, float]
) -> Iterator[Row]:
    """How the time grows with the rows, and how it stands to torch's float16, in seconds for each number of rows."""
    groups = copies(card, effort, random_matrix(shape, widths))
    single = 0.0
    for rows, torch_time in dense.items():
        product, _ = products(card, groups, rows)
        time = median_seconds(card, effort, product)[0]
        single = single or time
        label = f"EXL2 {name}, {shape[0]} x {shape[1]}, {rows} rows"
        yield Row(f"{label}: time", time * 1e6, "µs")
        yield Row(f"{label}: of the time for one", time / single, "times", TARGETS.get(rows))
        target = 2.0 if rows == 64 else None
        yield Row(f"{label}: torch's float16", torch_time / time, "times", target, at_least=True)


def measure(
    card: Card, effort: Effort, shapes: Sequence[tuple[int, int]] = SHAPES, all_rows: Sequence[int] = ROWS
) -> Iterator[Row]:
    """Every shape at the usual mixture of widths; every width at one shape, for one row and for more."""
    kinds: list[tuple[str, Widths]] = [(f"{width} bit", ((width, 1.0),)) for width in WIDTHS]
    for shape in shapes:
        yield from measure_one_row(card, effort, shape, "4 and 5 bit", MIX)
    large = max(shapes, key=lambda shape: shape[0] * shape[1])
    for name, widths in kinds:
        yield from measure_one_row(card, effort, large, name, widths)
    dense = {}
    for rows in all_rows:
        dense[rows] = median_seconds(card, effort, dense_products(card, effort, large, rows))[0]
        card.free_bytes()
    for name, widths in kinds:
        yield from measure_rows(card, effort, large, name, widths, dense)
        card.free_bytes()


def _rows(card: Card, wanted: Wanted) -> Iterator[Row]:
    if wanted.small:
        return measure(card, LITTLE, shapes=((128, 64),), all_rows=(1, 16))
    return measure(card, Effort())


PROGRAM = Program(__doc__, _rows, checks=False)


if __name__ == "__main__":
    sys.exit(PROGRAM.main())
