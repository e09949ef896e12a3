"""EXL2 matrices with the same input in one launch, on the emulated device, taking it in the order they store it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import KernelArgumentError
from engine.ops.backend import GroupKernel
from engine.ops.backend_memory import Exl2Shape
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_exl2_matrix import FUSED_ROWS
from engine.ops.exl2 import WIDTHS, Exl2Tensors
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.engine.ops.exl2_matrices import random_exl2, same_bits
from tests.kernels.cuda.test_exl2_linear import assert_product, inputs

ROWS = [64, 32, 128]


def matrices(
    widths: Sequence[Sequence[int]], outputs: Sequence[int], seed: int, rows: Sequence[int] = ROWS
) -> list[Exl2Tensors]:
    """Matrices with groups of these rows in widths of their own, and one order of stored rows for all."""
    made = [
        random_exl2(
            list(zip(sorted(each, reverse=True), rows, strict=True)), columns, seed=seed + index, bias=index == 1
        )
        for index, (each, columns) in enumerate(zip(widths, outputs, strict=True))
    ]
    return [replace(each, q_invperm=made[0].q_invperm) for each in made]


def qkv(seed: int) -> list[Exl2Tensors]:
    return matrices([(6, 5, 4), (4, 3, 2), (8, 8, 8)], (300, 96, 130), seed)


def grouped(backend: CudaBackend, tensors: Sequence[Exl2Tensors]) -> GroupKernel:
    group = backend.prepare_group([backend.prepare_exl2(each) for each in tensors])
    assert group is not None
    return group


def products(group: GroupKernel, x: torch.Tensor) -> list[torch.Tensor]:
    """Of x in feature order, in fresh outputs that hold no number where nothing was written."""
    given_x = x if group.input_order is None else x[:, group.input_order.long()].contiguous()
    outs = [torch.full((x.shape[0], kernel.out_features), float("nan"), dtype=x.dtype) for kernel in group.kernels]
    group(given_x, outs)
    return outs


@pytest.mark.parametrize("rows", [1, 8, 9, 31, 33, FUSED_ROWS, FUSED_ROWS + 1])
def test_each_gets_its_own_product(backend: CudaBackend, rows: int) -> None:
    tensors = qkv(rows)
    x = inputs(rows, 224, backend.activation_dtype, rows)
    slack = 1e-5 if rows <= FUSED_ROWS else torch.finfo(x.dtype).eps
    for out, each in zip(products(grouped(backend, tensors), x), tensors, strict=True):
        assert_product(out, x, each, slack)


@settings(max_examples=20, deadline=None)
@given(
    widths=st.lists(st.tuples(*[st.sampled_from(WIDTHS)] * 3), min_size=1, max_size=4),
    outputs=st.lists(st.integers(1, 300), min_size=4, max_size=4),
    rows=st.integers(1, 40),
    seed=st.integers(0, 1 << 30),
)
def test_products_equal_float64(
    backend: CudaBackend, widths: list[tuple[int, int, int]], outputs: list[int], rows: int, seed: int
) -> None:
    tensors = matrices(widths, outputs[: len(widths)], seed)
    x = inputs(rows, 224, backend.activation_dtype, seed)
    group = grouped(backend, tensors)
    together = products(group, x)
    for out, each in zip(together, tensors, strict=True):
        assert_product(out, x, each)
    last = products(group, x[rows - 1 :].contiguous())
    assert all(same_bits(one, all_rows[rows - 1 :].contiguous()) for one, all_rows in zip(last, together, strict=True))


def test_half_inputs_are_taken_in_stored_order(backend: CudaBackend) -> None:
    tensors = qkv(3)
    group = grouped(backend, tensors)
    if backend.activation_dtype == torch.bfloat16:
        assert group.input_order is None  # they have to be scaled on the way
        return
    assert group.input_order is not None
    assert group.input_places is not None
    assert torch.equal(group.input_order.long(), torch.argsort(tensors[0].q_invperm.long()))
    assert torch.equal(group.input_places.long(), tensors[0].q_invperm.long())


@pytest.mark.parametrize("rows", [1, 19])
def test_the_order_of_blocks_and_threads_does_not_matter(
    backend: CudaBackend, emulated: EmulatedRuntime, rows: int
) -> None:
    group = grouped(backend, qkv(5))
    x = inputs(rows, 224, backend.activation_dtype, 5)
    expected = products(group, x)
    for schedule, seed in ((Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1)):
        with emulated.in_order(schedule, seed):
            assert all(map(same_bits, products(group, x), expected))


def test_one_matrix_is_a_group_that_takes_no_memory(backend: CudaBackend) -> None:
    tensors = qkv(6)[:1]
    group = grouped(backend, tensors)
    x = inputs(3, 224, backend.activation_dtype, 6)
    out = torch.empty(3, 300, dtype=x.dtype)
    group.kernels[0](x, out)
    assert same_bits(products(group, x)[0], out)
    assert group.nbytes == 0


def test_memory_is_told_in_advance(backend: CudaBackend) -> None:
    tensors = qkv(7)
    shapes = [
        Exl2Shape(each.in_features, each.out_features, each.q_weight.shape[0], 3, bias=each.bias is not None)
        for each in tensors
    ]
    assert grouped(backend, tensors).nbytes == backend.memory.exl2_group(shapes) > 0
    assert backend.memory.exl2_group(shapes[:1]) == 0


def test_what_cannot_be_a_group_is_none(backend: CudaBackend) -> None:
    tensors = qkv(8)
    kernels = [backend.prepare_exl2(each) for each in tensors]
    other = backend.prepare_exl2(replace(tensors[1], q_invperm=tensors[1].q_invperm.flip(0)))
    dense = backend.prepare_dense(torch.zeros(32, 224), None)
    assert backend.prepare_group([kernels[0], other]) is None
    assert backend.prepare_group([kernels[0], dense]) is None
    assert backend.prepare_group([dense]) is None
    assert backend.prepare_group([kernels[0]] * 5) is None


def test_wrong_tensors_are_refused(backend: CudaBackend) -> None:
    group = grouped(backend, qkv(9)[:2])
    x = inputs(2, 224, backend.activation_dtype, 9)
    outs = [torch.empty(2, 300, dtype=x.dtype), torch.empty(2, 96, dtype=x.dtype)]
    with pytest.raises(KernelArgumentError, match="x must be"):
        group(x[:, :128].contiguous(), outs)
    with pytest.raises(KernelArgumentError, match="out must be"):
        group(x, outs[::-1])
    with pytest.raises(KernelArgumentError, match="2 matrices"):
        group(x, outs[:1])
    if group.input_order is not None:
        shifted = torch.empty(2 * 224 + 1, dtype=x.dtype)[1:].view(2, 224)
        with pytest.raises(KernelArgumentError, match="aligned to 16 bytes"):
            group(shifted, outs)
