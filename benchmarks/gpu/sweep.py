"""Stage: every op on this card against its torch reference in float32 on the CPU, and twice for equal bits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gpu.rows import hand_over, rows_option
from benchmarks.report import Row
from engine.ops.backend import AttentionBatch, Backend
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_runtime import CudaRuntime, Runtime
from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups
from engine.ops.torch_backend import TorchBackend

LARGEST_ERROR = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
"""Relative to the largest value of an output; bfloat16 has 8 bits."""


@dataclass(frozen=True, slots=True)
class Case:
    """An op with its inputs.

    Attributes:
        name: for people.
        inputs: floating point ones are activations; the others stay as they are.
        call: runs it on a backend, and returns its output.
    """

    name: str
    inputs: tuple[torch.Tensor, ...]
    call: Callable[[Backend, Sequence[torch.Tensor]], torch.Tensor]


def _norm(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    out = torch.empty_like(x[0])
    backend.rms_norm(x[0], x[1], 1e-5, out)
    return out


def _gate(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    out = torch.empty_like(x[0])
    backend.silu_mul(x[0], x[1], out)
    backend.add(x[0], out)
    return out


def _rotate(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    q, k = x[0].clone(), x[1].clone()
    backend.rotate(q, k, x[2], x[3].float(), x[4].float())
    return torch.cat([q.flatten(), k.flatten()])


def _gather(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    embedded = torch.empty(x[1].shape[0], x[0].shape[1], dtype=x[0].dtype, device=x[0].device)
    taken = torch.empty_like(embedded)
    backend.embed(x[1], x[0], embedded)
    backend.take_rows(x[0], x[1], taken)
    return torch.cat([embedded, taken])


def _store(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    k_cache, v_cache = torch.zeros_like(x[2]), torch.zeros_like(x[2])
    backend.store_kv(x[0], x[1], k_cache, v_cache, AttentionBatch(x[3], x[3], x[3][:, None], x[3]))
    return torch.cat([k_cache, v_cache])


def _rotate_and_store(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
    q, cos, sin, slots = x[0].clone(), x[4].float(), x[5].float(), x[7]
    k_cache, v_cache = torch.zeros_like(x[6]), torch.zeros_like(x[6])
    batch = AttentionBatch(slots, slots, slots[:, None], slots)
    backend.rotate_and_store(q, x[1].clone(), x[2], x[3], cos, sin, k_cache, v_cache, batch)
    return torch.cat([each.flatten() for each in (q, k_cache, v_cache)])


def attention_case(
    q_heads: int, kv_heads: int, head_dim: int, lengths: Sequence[int], window: int | None, queries: int = 1
) -> Case:
    """The last tokens, `queries` of each, of sequences of these lengths, over a cache of scattered blocks of 16."""
    generator = torch.Generator().manual_seed(q_heads)
    width, tokens = -(-max(lengths) // 16), queries * len(lengths)
    blocks = width * len(lengths)
    tables = torch.randperm(blocks, generator=generator).to(torch.int32).reshape(len(lengths), width)
    shape = (blocks, kv_heads, 16, head_dim)
    inputs = (
        torch.randn(tokens, q_heads, head_dim, generator=generator),
        torch.randn(shape, generator=generator),
        torch.randn(shape, generator=generator),
        torch.arange(0, tokens + 1, queries, dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        tables,
    )

    def call(backend: Backend, x: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.empty_like(x[0])
        slots = torch.empty(
            tokens, dtype=torch.int32, device=x[0].device
        )  # as many as tokens; attention stores nothing
        batch = AttentionBatch(x[3], x[4], x[5], slots)
        backend.paged_attention(x[0], x[1], x[2], batch, head_dim**-0.5, window, out)
        return out

    which = f"{queries} tokens of {list(lengths)}"
    return Case(f"attention {q_heads}/{kv_heads} heads of {head_dim}, {which}, window {window}", inputs, call)


def random_exl2(widths: Sequence[int], rows_per_width: int, outputs: int) -> Exl2Tensors:
    """An EXL2 matrix of random codes, with a group of each width."""
    generator = torch.Generator().manual_seed(0)

    def bits(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)

    return Exl2Tensors(
        q_weight=bits(sum(rows_per_width * width // 32 for width in widths), outputs),
        q_invperm=torch.randperm(rows_per_width * len(widths), generator=generator).to(torch.int32),
        q_scale=bits(len(widths), outputs // 8),
        q_scale_max=torch.full((len(widths),), 0.01, dtype=torch.float16),
        q_groups=build_q_groups([(width, rows_per_width) for width in widths]),
        bias=None,
        out_features=outputs,
    )


def exl2_case(tensors: Exl2Tensors, rows: int) -> Case:
    """The product of some rows with a matrix."""
    x = torch.randn(rows, tensors.in_features, generator=torch.Generator().manual_seed(rows))

    def call(backend: Backend, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        out = torch.empty(rows, tensors.out_features, dtype=inputs[0].dtype, device=inputs[0].device)
        backend.prepare_exl2(tensors)(inputs[0], out)
        return out

    return Case(f"EXL2 {tensors.in_features} to {tensors.out_features}, {rows} rows", (x,), call)


def cases(small: bool) -> list[Case]:
    """What is tried; small sizes are for tools that slow everything down."""
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    rows, width = (3, 257) if small else (64, 4096)
    matrix = random_exl2(sorted(WIDTHS, reverse=True), 64 if small else 640, 608 if small else 4096)
    long = 150 if small else 4000
    positions = torch.arange(rows, dtype=torch.int32)
    return [
        Case(f"rms_norm [{rows}, {width}]", (random(rows, width), random(width)), _norm),
        Case(f"silu_mul, add [{rows}, {width}]", (random(rows, width), random(rows, width)), _gate),
        Case(
            f"rotate, {rows} tokens",
            (random(rows, 8, 128), random(rows, 2, 128), positions, random(rows, 64), random(rows, 64)),
            _rotate,
        ),
        Case(f"embed, take_rows [{rows}, {width}]", (random(rows, width), positions.flip(0)), _gather),
        Case(
            f"store_kv, {rows} tokens",
            (random(rows, 2, 128), random(rows, 2, 128), random(rows, 2, 16, 128), positions * 16 + 5),
            _store,
        ),
        Case(
            f"rotate_and_store, {rows} tokens",
            (
                *(random(rows, heads, 128) for heads in (8, 2, 2)),
                *(positions, random(rows, 64), random(rows, 64), random(rows, 2, 16, 128), positions * 16 + 5),
            ),
            _rotate_and_store,
        ),
        *(exl2_case(matrix, each) for each in ((1, 17) if small else (1, 8, 17, 64, 65, 256))),
        attention_case(4, 4, 64, [1, long], None),
        attention_case(8, 2, 128, [17, long, 129], None),
        attention_case(7, 1, 96, [long], 140),
        attention_case(16, 1, 256, [200], None),
        attention_case(8, 2, 128, [17, long, 129], None, queries=17),
        attention_case(7, 1, 96, [long], 140, queries=20 if small else 700),
        attention_case(16, 1, 256, [200], None, queries=20 if small else 200),
    ]


def check(case: Case, backend: Backend) -> list[Row]:
    """The error of one op, and whether it gives the same bits again."""
    dtype = backend.activation_dtype
    given = [each.to(dtype) if each.is_floating_point() else each for each in case.inputs]
    placed = [each.to(backend.device) for each in given]
    first, again = case.call(backend, placed), case.call(backend, placed)
    reference = case.call(TorchBackend(), [each.float() if each.is_floating_point() else each for each in given])
    error = (first.float().cpu() - reference).abs().max() / reference.abs().max()
    name = f"{case.name}, {str(dtype).removeprefix('torch.')}"
    different = int((first != again).sum())
    return [
        Row(f"{name}: error", float(error.nan_to_num(torch.inf)), "relative", LARGEST_ERROR[dtype]),
        Row(f"{name}: bits that differ when run again", different, "elements", 0),
    ]


def check_all(runtime: Runtime, *, small: bool) -> Iterator[Row]:
    """Every case with every type of activations."""
    for dtype in LARGEST_ERROR:
        backend = CudaBackend(runtime, dtype)
        for case in cases(small):
            yield from check(case, backend)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.sweep", description=__doc__)
    parser.add_argument("--small", action="store_true", help="small sizes, for compute-sanitizer")
    rows_option(parser)
    options = parser.parse_args()
    return hand_over(check_all(CudaRuntime(), small=options.small), options.json)


if __name__ == "__main__":
    sys.exit(main())
