"""Stage: speed of EXL2 products on this card, against copying and against torch's float16 product of the same shape.

Every product reads another copy of its matrix, so many that they do not fit into the cache, and is replayed from a
graph, so that the host's time does not count. Bytes are those the matrix holds, and the activations; the step that puts
the activations into stored order is part of the time. Figures are medians of rounds in which all alternate.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.gpu.rows import hand_over, rows_option
from benchmarks.gpu.speed import COPY_BYTES, ROUNDS, seconds
from benchmarks.report import Row
from engine.ops.backend import LinearKernel
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_runtime import CudaRuntime
from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups

SHAPES = ((4096, 6144), (4096, 4096), (4096, 28672), (14336, 4096))
"""Inputs and outputs of the matrices of an 8B model: q, k and v together, o, gate and up together, down."""

LARGE_SHAPE = SHAPES[2]
MIX = ((5, 0.1), (4, 0.9))
"""Widths and their shares of the rows, as at 4 bits for each weight."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
GROUP_ROWS = 128
ROTATED_BYTES = 512 << 20
TARGETS = {16: 1.15, 32: 1.35}
"""Time for so many rows, of that for one."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Something that is measured.

    Attributes:
        replay: runs it `calls` times.
        calls: in one replay.
    """

    replay: Callable[[], object]
    calls: int


def random_matrix(shape: tuple[int, int], widths: Sequence[tuple[int, float]]) -> Exl2Tensors:
    """An EXL2 matrix of random bits, with groups of GROUP_ROWS in these widths."""
    in_features, out_features = shape
    generator = torch.Generator().manual_seed(in_features + out_features)
    groups = in_features // GROUP_ROWS
    layout: list[tuple[int, int]] = []
    for width, share in widths:
        layout += [(width, GROUP_ROWS)] * min(round(share * groups), groups - len(layout))
    layout += [(widths[-1][0], GROUP_ROWS)] * (groups - len(layout))

    def words(*size: int) -> torch.Tensor:
        return torch.randint(-(1 << 31), (1 << 31) - 1, size, generator=generator, dtype=torch.int32)

    return Exl2Tensors(
        q_weight=words(sum(width * rows for width, rows in layout) // 32, out_features),
        q_invperm=torch.randperm(in_features, generator=generator).to(torch.int32),
        q_scale=words(groups, out_features // 8),
        q_scale_max=torch.full((groups,), 0.05, dtype=torch.float16),
        q_groups=build_q_groups(layout),
        bias=None,
        out_features=out_features,
    )


def captured(calls: Sequence[Callable[[], object]]) -> Timed:
    """All calls in one graph; each is made once before, as capturing asks for."""
    for call in calls:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return Timed(graph.replay, len(calls))


def median_seconds(*bodies: Timed) -> list[float]:
    """Seconds for one call of each, median of alternating rounds."""
    times: list[list[float]] = [[] for _ in bodies]
    for _ in range(ROUNDS):
        for body, record in zip(bodies, times, strict=True):
            record.append(seconds(body.replay) / body.calls)
    return [statistics.median(record) for record in times]


def copying() -> Timed:
    """The yardstick: a copy reads and writes COPY_BYTES together."""
    source = torch.empty(COPY_BYTES // 2, dtype=torch.uint8, device="cuda")
    copied = torch.empty_like(source)
    return Timed(lambda: copied.copy_(source), 1)


def copies(backend: CudaBackend, tensors: Exl2Tensors) -> list[LinearKernel]:
    """The matrix as often as it takes to fill ROTATED_BYTES."""
    first = backend.prepare_exl2(tensors)
    return [first, *(backend.prepare_exl2(tensors) for _ in range(ROTATED_BYTES // first.nbytes))]


def products(kernels: Sequence[LinearKernel], rows: int) -> tuple[Timed, int]:
    """Products with copies of a matrix, and the bytes of one."""
    first = kernels[0]
    x = torch.randn(rows, first.in_features, device="cuda").half()
    out = torch.empty(rows, first.out_features, dtype=torch.float16, device="cuda")
    return captured([partial(kernel, x, out) for kernel in kernels]), first.nbytes + x.nbytes + out.nbytes


def dense_products(shape: tuple[int, int], rows: int) -> Timed:
    """The same with float16 matrices, in torch."""
    size = 2 * shape[0] * shape[1]
    weights = [torch.randn(shape, device="cuda").half() * 0.02 for _ in range(1 + ROTATED_BYTES // size)]
    x = torch.randn(rows, shape[0], device="cuda").half()
    out = torch.empty(rows, shape[1], dtype=torch.float16, device="cuda")
    return captured([partial(torch.mm, x, weight, out=out) for weight in weights])


def measure_one_row(
    backend: CudaBackend, shape: tuple[int, int], name: str, widths: Sequence[tuple[int, float]]
) -> list[Row]:
    """Bandwidth of one row's product, and its share of copying."""
    product, size = products(copies(backend, random_matrix(shape, widths)), 1)
    time, copy = median_seconds(product, copying())
    rate, copy_rate = size / time, COPY_BYTES / copy
    label = f"EXL2 {name}, {shape[0]} x {shape[1]}, 1 row"
    return [
        Row(f"{label}: bandwidth", rate / 1e9, "GB/s"),
        Row(f"{label}: share of copying", rate / copy_rate, "", 0.75, at_least=True),
    ]


def measure_rows(backend: CudaBackend, name: str, widths: Sequence[tuple[int, float]]) -> list[Row]:
    """How the time grows with the rows, and how it stands to torch's float16."""
    kernels = copies(backend, random_matrix(LARGE_SHAPE, widths))
    found: list[Row] = []
    single = 0.0
    for rows in ROWS:
        product, _ = products(kernels, rows)
        time, dense = median_seconds(product, dense_products(LARGE_SHAPE, rows))
        single = single or time
        label = f"EXL2 {name}, {LARGE_SHAPE[0]} x {LARGE_SHAPE[1]}, {rows} rows"
        found += [
            Row(f"{label}: time", time * 1e6, "µs"),
            Row(f"{label}: of the time for one", time / single, "times", TARGETS.get(rows)),
            Row(f"{label}: torch's float16", dense / time, "times", 2.0 if rows == 64 else None, at_least=True),
        ]
        torch.cuda.empty_cache()
    return found


def main() -> int:
    """The command; 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.exl2_speed", description=__doc__)
    rows_option(parser)
    options = parser.parse_args()
    backend = CudaBackend(CudaRuntime())
    kinds = [(f"{width} bit", ((width, 1.0),)) for width in WIDTHS]
    rows = [row for shape in SHAPES for row in measure_one_row(backend, shape, "4 and 5 bit", MIX)]
    for name, widths in kinds:
        rows += measure_one_row(backend, LARGE_SHAPE, name, widths)
    for name, widths in kinds:
        rows += measure_rows(backend, name, widths)
    hand_over(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
