"""Stage: every op on this card against its torch reference in float32 on the CPU, and twice for equal bits.

Each op comes with each of its options, EXL2 matrices as models use them too, and the golden files to the bit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import torch

from benchmarks.gpu.cases import Case, attention_cases, cache_cases, dense_case, elementwise_cases
from benchmarks.gpu.exl2_cases import SMALL, Exl2Sizes, exl2_cases
from benchmarks.gpu.golden import check_golden
from benchmarks.gpu.program import Program
from benchmarks.report import Row
from engine.ops.backend import Backend
from engine.ops.cuda_backend import ACTIVATION_TYPES, CudaBackend
from engine.ops.cuda_exl2_matrix import MANY_ROWS_CAPABILITY
from engine.ops.cuda_runtime import Runtime
from engine.ops.torch_backend import TorchBackend

LARGEST_ERROR = {torch.float32: 0.0, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""For each type that results are rounded to, relative to the largest value of an output; bfloat16 has 8 bits."""


def cases(small: bool, *, many_rows: bool) -> Iterator[Case]:
    """What is tried; small sizes are for tools that slow everything down.

    Args:
        small: whether they are wanted.
        many_rows: whether the device has the EXL2 kernel for many rows.
    """
    rows, width = (3, 257) if small else (64, 4096)
    yield from elementwise_cases(rows, width)
    yield from cache_cases(rows)
    yield from attention_cases(long=150 if small else 4000, prompt=20 if small else 700)
    for bias in (False, True):
        yield dense_case(rows, 64 if small else 4096, 96 if small else 1024, bias=bias)
    yield from exl2_cases(SMALL if small else Exl2Sizes(), many_rows=many_rows)


def check(case: Case, backend: Backend) -> list[Row]:
    """The error of one op, and whether it gives the same bits again."""
    dtype = backend.activation_dtype
    given = [each.to(dtype) if each.is_floating_point() else each for each in case.inputs]
    placed = [each.to(backend.device) for each in given]
    first, again = case.call(backend, placed), case.call(backend, placed)
    reference = case.call(TorchBackend(), [each.float() if each.is_floating_point() else each for each in given])
    error = (first.float().cpu() - reference).abs().max() / reference.abs().max()
    largest = max(LARGEST_ERROR[dtype], LARGEST_ERROR[case.stored or dtype])
    name = f"{case.name}, {str(dtype).removeprefix('torch.')}"
    different = int((first != again).sum())
    return [
        Row(f"{name}: error", float(error.nan_to_num(torch.inf)), "relative", largest),
        Row(f"{name}: bits that differ when run again", different, "elements", 0),
    ]


def check_all(runtime: Runtime, *, small: bool) -> Iterator[Row]:
    """Every case with every type of activations, and the golden files."""
    capability = runtime.info.capability_major, runtime.info.capability_minor
    for dtype in ACTIVATION_TYPES:
        backend = CudaBackend(runtime, dtype)
        many_rows = capability == MANY_ROWS_CAPABILITY and dtype == torch.float16
        for case in cases(small, many_rows=many_rows):
            yield from check(case, backend)
    yield from check_golden(runtime)


PROGRAM = Program(__doc__, lambda card, wanted: check_all(card.runtime, small=wanted.small), checks=True)

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
