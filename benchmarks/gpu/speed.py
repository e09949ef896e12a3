"""Stage: bytes per second of the kernels on this card, as a share of the copy bandwidth measured in the same run.

Figures are medians of rounds in which kernels and yardstick alternate. A share that misses its target is no failure of
the stage: it is what the run is there to find out.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable

import torch

from benchmarks.gpu.rows import hand_over, rows_option
from benchmarks.gpu.sweep import attention_case
from benchmarks.report import Row
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_runtime import CudaRuntime

ROUNDS, CALLS = 7, 10
COPY_BYTES = 2 << 30


def seconds(call: Callable[[], object]) -> float:
    """Time of one call on the device, averaged over CALLS."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    call()
    begin.record()
    for _ in range(CALLS):
        call()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000 / CALLS


def compare(name: str, bytes_moved: int, call: Callable[[], object], target: float | None = None) -> list[Row]:
    """A kernel's bandwidth, and its share of a copy's, alternating with one."""
    source = torch.empty(COPY_BYTES // 2, dtype=torch.uint8, device="cuda")
    copied = torch.empty_like(source)
    times, copies = [], []
    for _ in range(ROUNDS):
        times.append(seconds(call))
        copies.append(seconds(lambda: copied.copy_(source)))
    rate, copy_rate = bytes_moved / statistics.median(times), COPY_BYTES / statistics.median(copies)
    return [
        Row(f"{name}: bandwidth", rate / 1e9, "GB/s"),
        Row(f"{name}: share of copying", rate / copy_rate, "", target, at_least=True),
    ]


def measure_attention(backend: CudaBackend, sequences: int, length: int) -> list[Row]:
    """Decode of sequences of one length, shaped as in an 8B model."""
    case = attention_case(32, 8, 128, [length] * sequences, None)
    placed = [(x.half() if x.is_floating_point() else x).cuda() for x in case.inputs]
    moved = 2 * sequences * length * 8 * 128 * 2
    return compare(f"attention {sequences} x {length}", moved, lambda: case.call(backend, placed), 0.75)


def measure_elementwise(backend: CudaBackend, rows: int) -> list[Row]:
    """Norm and gate, shaped as in an 8B model."""
    x, weight = torch.randn(rows, 4096).half().cuda(), torch.randn(4096).half().cuda()
    gate, up = torch.randn(rows, 14336).half().cuda(), torch.randn(rows, 14336).half().cuda()
    normed, gated = torch.empty_like(x), torch.empty_like(gate)
    return [
        *compare(f"rms_norm of {rows}", 2 * x.nbytes, lambda: backend.rms_norm(x, weight, 1e-5, normed)),
        *compare(f"silu_mul of {rows}", 3 * gate.nbytes, lambda: backend.silu_mul(gate, up, gated)),
    ]


def main() -> int:
    """The command; 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.speed", description=__doc__)
    rows_option(parser)
    options = parser.parse_args()
    backend = CudaBackend(CudaRuntime())
    rows: list[Row] = []
    for sequences, length in ((32, 2048), (1, 32768), (64, 1024)):
        rows += measure_attention(backend, sequences, length)
    for tokens in (1, 64, 2048):
        rows += measure_elementwise(backend, tokens)
    hand_over(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
