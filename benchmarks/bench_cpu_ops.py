"""Speed of the native CPU ops, each next to a yardstick measured in the same run.

    python -m benchmarks.bench_cpu_ops [--threads N] [--isa avx512|avx2|portable] [--rounds R]

Decode is held to the read bandwidth of the same threads, prefill to torch.mm in float32. Every figure is the median of
alternating rounds; shared machines drift by a factor of two within minutes, so only ratios within a run mean anything.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.machine import cpu_name
from cpu_ext.context import Context
from cpu_ext.loader import Isa, load_library
from engine.ops.backend import AttentionBatch
from engine.ops.cpu_backend import CpuBackend
from engine.ops.cpu_linear import CpuLinear, prepare_exl2
from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups

IN_FEATURES, OUT_FEATURES, GROUP_ROWS = 4096, 4096, 128
PREFILL_ROWS = 256
STREAM_BYTES = 256 << 20  # what one decode measurement reads at least: far beyond any cache
CONTEXT, Q_HEADS, KV_HEADS, HEAD_DIM, BLOCK_SIZE = 8192, 32, 8, 128, 16


def random_matrix(width: int, seed: int) -> Exl2Tensors:
    """An EXL2 matrix of random bits, all groups of one width."""
    random = torch.Generator().manual_seed(seed)
    groups = IN_FEATURES // GROUP_ROWS
    words = IN_FEATURES * width // 32
    return Exl2Tensors(
        q_weight=torch.randint(-(1 << 31), (1 << 31) - 1, (words, OUT_FEATURES), generator=random, dtype=torch.int32),
        q_invperm=torch.randperm(IN_FEATURES, generator=random, dtype=torch.int32),
        q_scale=torch.randint(
            -(1 << 31), (1 << 31) - 1, (groups, OUT_FEATURES // 8), generator=random, dtype=torch.int32
        ),
        q_scale_max=torch.full((groups,), 0.05, dtype=torch.float16),
        q_groups=build_q_groups([(width, GROUP_ROWS)] * groups),
        bias=None,
        out_features=OUT_FEATURES,
    )


def median_seconds(rounds: int, *bodies: Callable[[], object]) -> list[float]:
    """Median time of each body; rounds alternate between the bodies, so that all see the same machine."""
    times: list[list[float]] = [[] for _ in bodies]
    for body in bodies:
        body()  # warm up
    for _ in range(rounds):
        for body, record in zip(bodies, times, strict=True):
            start = time.perf_counter()
            body()
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def reading(context: Context, buffer: torch.Tensor) -> Callable[[], object]:
    """The bandwidth yardstick: every thread sums its part of a buffer."""
    return lambda: context.functions.quire_read_memory(context.handle, buffer.data_ptr(), buffer.numel())


def decode(context: Context, width: int, rounds: int, buffer: torch.Tensor) -> str:
    """One row through as many matrices as make STREAM_BYTES, against reading as much memory."""
    first = prepare_exl2(context, random_matrix(width, 0))
    matrices: list[CpuLinear] = [first]
    while len(matrices) * first.nbytes < STREAM_BYTES:
        matrices.append(prepare_exl2(context, random_matrix(width, len(matrices))))
    x, out = torch.randn(1, IN_FEATURES), torch.empty(1, OUT_FEATURES)

    def body() -> None:
        for matrix in matrices:
            matrix(x, out)

    seconds, read_seconds = median_seconds(rounds, body, reading(context, buffer))
    rate = len(matrices) * first.nbytes / seconds / 1e9
    weights = len(matrices) * IN_FEATURES * OUT_FEATURES / seconds / 1e9
    bandwidth = buffer.nbytes / read_seconds / 1e9
    ours = f"{width} bit  {rate:6.1f} GB/s  {weights:6.1f} Gweights/s"
    return f"{ours}   memory {bandwidth:5.1f} GB/s  {rate / bandwidth:5.0%}"


def prefill(context: Context, width: int, rounds: int) -> str:
    """PREFILL_ROWS rows, against torch.mm with the same shape in float32."""
    matrix = prepare_exl2(context, random_matrix(width, 0))
    x, out = torch.randn(PREFILL_ROWS, IN_FEATURES), torch.empty(PREFILL_ROWS, OUT_FEATURES)
    weight, product = torch.randn(IN_FEATURES, OUT_FEATURES), torch.empty(PREFILL_ROWS, OUT_FEATURES)
    ours, theirs = median_seconds(rounds, lambda: matrix(x, out), lambda: torch.mm(x, weight, out=product))
    work = 2 * PREFILL_ROWS * IN_FEATURES * OUT_FEATURES / 1e9
    speed, yardstick = work / ours, work / theirs
    return f"{width} bit  {speed:6.0f} GFLOP/s              torch.mm {yardstick:6.0f} GFLOP/s  {theirs / ours:5.0%}"


def attention(backend: CpuBackend, context: Context, rounds: int, buffer: torch.Tensor) -> str:
    """One token of one long sequence over a float16 cache."""
    blocks = CONTEXT // BLOCK_SIZE
    k_cache, v_cache = (torch.randn(blocks, KV_HEADS, BLOCK_SIZE, HEAD_DIM).half() for _ in range(2))
    q, out = torch.randn(1, Q_HEADS, HEAD_DIM), torch.empty(1, Q_HEADS, HEAD_DIM)
    batch = AttentionBatch(
        query_start=torch.tensor([0, 1], dtype=torch.int32),
        context_lens=torch.tensor([CONTEXT], dtype=torch.int32),
        block_tables=torch.randperm(blocks, dtype=torch.int32)[None],
        slots=torch.zeros(1, dtype=torch.int32),
    )
    ours, read = median_seconds(
        rounds,
        lambda: backend.paged_attention(q, k_cache, v_cache, batch, HEAD_DIM**-0.5, None, out),
        reading(context, buffer),
    )
    rate, bandwidth = (k_cache.nbytes + v_cache.nbytes) / ours / 1e9, buffer.nbytes / read / 1e9
    return f"{CONTEXT} positions  {rate:6.1f} GB/s           memory {bandwidth:5.1f} GB/s  {rate / bandwidth:5.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the native CPU ops against yardsticks of the same run.")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="kernel threads")
    parser.add_argument("--isa", choices=[isa.name.lower() for isa in Isa], default="auto", help="instruction set")
    parser.add_argument("--rounds", type=int, default=7, help="rounds each median is taken of")
    arguments = parser.parse_args()
    isa = Isa[arguments.isa.upper()]
    torch.set_num_threads(arguments.threads)
    backend = CpuBackend(arguments.threads, isa)
    context = Context(load_library(), arguments.threads, isa)
    buffer = torch.ones(STREAM_BYTES // 8, dtype=torch.int64)
    load = os.getloadavg()[0]
    print(f"{cpu_name()}, {os.cpu_count()} CPUs, load {load:.1f}; {backend.name}, {backend.threads} threads")
    print(f"\ndecode: 1 x {IN_FEATURES} x {OUT_FEATURES}, groups of {GROUP_ROWS}, bytes as held in memory")
    for width in WIDTHS:
        print("  " + decode(context, width, arguments.rounds, buffer), flush=True)
    print(f"\nprefill: {PREFILL_ROWS} x {IN_FEATURES} x {OUT_FEATURES}")
    for width in WIDTHS:
        print("  " + prefill(context, width, arguments.rounds), flush=True)
    print(f"\npaged attention: 1 token, {Q_HEADS} heads over {KV_HEADS}, dimension {HEAD_DIM}, float16 cache")
    print("  " + attention(backend, context, arguments.rounds, buffer))


if __name__ == "__main__":
    main()
