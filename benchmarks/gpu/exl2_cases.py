"""What the sweep tries of EXL2 matrices: alone, together, in the order that the op before writes, and many rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.gpu.cases import BLOCK, Case
from benchmarks.gpu.matrices import every_width, random_exl2
from engine.ops.backend import AttentionBatch, Backend, GroupKernel, LinearKernel
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_exl2_matrix import CudaExl2Matrix, Exl2Workspace
from engine.ops.cuda_exl2_product import Exl2Product
from engine.ops.exl2 import Exl2Tensors
from engine.ops.torch_backend import TorchBackend

HEADS, HEAD_DIM = 8, 64


@dataclass(frozen=True, slots=True)
class Exl2Sizes:
    """How large: by default so that every warp of a large card has several tiles, one after the other.

    Attributes:
        group_rows: rows of a matrix in each width.
        outputs: of it; some more are stored.
        rows: of activations, one product after the other.
        many_rows: likewise, for the kernel that takes many.
    """

    group_rows: int = 640
    outputs: int = 14328
    rows: tuple[int, ...] = (1, 8, 17, 64, 65, 256)
    many_rows: tuple[int, ...] = (1, 65, 129, 512)


SMALL = Exl2Sizes(group_rows=32, outputs=200, rows=(1, 17, 65), many_rows=(3, 65))


def exl2_cases(sizes: Exl2Sizes, *, many_rows: bool) -> Iterator[Case]:
    """All of them.

    Args:
        sizes: how large.
        many_rows: whether the device has the kernel for many rows of these activations.
    """
    layout = every_width(sizes.group_rows)
    matrix, biased = (random_exl2(layout, sizes.outputs, seed=bias, bias=bool(bias)) for bias in (0, 1))
    together = _same_inputs([matrix, biased, random_exl2([(4, matrix.in_features)], sizes.outputs // 2, seed=2)])
    for rows in sizes.rows:
        yield _alone(matrix, rows)
        yield _alone(biased, rows)
        yield _after_norm(together, rows)
        yield _after_gate(biased, rows)
    for rows in sizes.rows[:2]:
        yield _after_attention(random_exl2([(5, 256), (3, 256)], sizes.outputs, seed=3), rows)
    if many_rows:
        for rows in sizes.many_rows:
            yield _many_rows(biased, rows)


def _alone(tensors: Exl2Tensors, rows: int) -> Case:
    """Inputs in the order of features."""

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        (out,) = _outputs(given[0], [tensors])
        backend.prepare_exl2(tensors)(given[0], out)
        return out

    bias = "" if tensors.bias is None else " with a bias"
    name = f"EXL2 {tensors.in_features} to {tensors.out_features}{bias}, {rows} rows"
    return Case(name, (_random(rows, tensors.in_features),), call)


def _after_norm(matrices: Sequence[Exl2Tensors], rows: int) -> Case:
    """As q, k and v: several with the same inputs, which the norm writes in their order."""
    width = matrices[0].in_features

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        kernels, group = _prepared(backend, matrices)
        normed = torch.empty_like(given[0])
        backend.rms_norm(given[0], given[1], 1e-5, normed, None if group is None else group.input_order)
        return _multiplied(kernels, group, normed, matrices)

    name = f"EXL2 {width} to {' and '.join(str(each.out_features) for each in matrices)}, after a norm, {rows} rows"
    return Case(name, (_random(rows, width), _random(1, width)[0]), call)


def _after_gate(tensors: Exl2Tensors, rows: int) -> Case:
    """As down_proj, whose inputs the gate writes in its order."""

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        kernels, group = _prepared(backend, [tensors])
        gated = torch.empty_like(given[0])
        backend.silu_mul(given[0], given[1], gated, None if group is None else group.input_order)
        return _multiplied(kernels, group, gated, [tensors])

    name = f"EXL2 {tensors.in_features} to {tensors.out_features}, after a gate, {rows} rows"
    return Case(name, (_random(rows, tensors.in_features), _random(rows, tensors.in_features, seed=1)), call)


def _after_attention(tensors: Exl2Tensors, sequences: int) -> Case:
    """As o_proj, whose inputs attention writes to its places."""
    positions = torch.arange(sequences, dtype=torch.int32)
    caches = (_random(sequences * 2, BLOCK, HEAD_DIM, seed=seed).view(sequences, 2, BLOCK, HEAD_DIM) for seed in (0, 1))
    starts = torch.arange(sequences + 1, dtype=torch.int32)
    inputs = (_random(sequences, HEADS, HEAD_DIM, seed=2), *caches, starts, positions % BLOCK + 1, positions)

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        kernels, group = _prepared(backend, [tensors])
        q, keys, values, starts, lens, blocks = given
        attended = torch.empty_like(q)
        batch = AttentionBatch(starts, lens, blocks[:, None].contiguous(), blocks)
        where = None if group is None else group.input_places
        backend.paged_attention(q, keys, values, batch, HEAD_DIM**-0.5, None, attended, where)
        return _multiplied(kernels, group, attended.view(sequences, -1), [tensors])

    name = f"EXL2 {tensors.in_features} to {tensors.out_features}, after attention, {sequences} rows"
    return Case(name, inputs, call)


def _many_rows(tensors: Exl2Tensors, rows: int) -> Case:
    """The kernel for many rows, which no backend uses by itself yet."""

    def call(backend: Backend, given: Sequence[torch.Tensor]) -> torch.Tensor:
        (out,) = _outputs(given[0], [tensors])
        if not isinstance(backend, CudaBackend):
            backend.prepare_exl2(tensors)(given[0], out)
            return out
        workspace = Exl2Workspace(backend.runtime, backend.activation_dtype, many_rows=range(1, rows + 1))
        matrix = CudaExl2Matrix(workspace, tensors)
        Exl2Product(workspace, [matrix]).multiply_ordered(given[0][:, matrix.features.long()].contiguous(), [out])
        return out

    name = f"EXL2 {tensors.in_features} to {tensors.out_features} by the kernel for many rows, {rows} rows"
    return Case(name, (_random(rows, tensors.in_features),), call)


def _same_inputs(matrices: Sequence[Exl2Tensors]) -> list[Exl2Tensors]:
    """Their rows stored in one order."""
    return [replace(each, q_invperm=matrices[0].q_invperm) for each in matrices]


def _prepared(backend: Backend, matrices: Sequence[Exl2Tensors]) -> tuple[list[LinearKernel], GroupKernel | None]:
    """As a model has them: as a group, where the backend makes one of them.

    Raises:
        RuntimeError: the backend should, and does not.
    """
    kernels = [backend.prepare_exl2(each) for each in matrices]
    group = backend.prepare_group(kernels)
    if group is None and not isinstance(backend, TorchBackend):
        raise RuntimeError(f"{backend.name} computes these matrices one by one.")
    return kernels, group


def _multiplied(
    kernels: Sequence[LinearKernel], group: GroupKernel | None, x: torch.Tensor, matrices: Sequence[Exl2Tensors]
) -> torch.Tensor:
    outs = _outputs(x, matrices)
    if group is None:
        for kernel, out in zip(kernels, outs, strict=True):
            kernel(x, out)
    else:
        group(x, outs)
    return torch.cat(outs, dim=1)


def _outputs(x: torch.Tensor, matrices: Sequence[Exl2Tensors]) -> list[torch.Tensor]:
    """That hold no number where nothing is written."""
    return [torch.full((len(x), each.out_features), torch.nan, dtype=x.dtype, device=x.device) for each in matrices]


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
