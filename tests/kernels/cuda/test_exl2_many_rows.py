"""The product of many rows on warp groups' matrix instructions, on the emulated device."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import KernelArgumentError
from engine.ops.cuda_exl2_matrix import CudaExl2Matrix, Exl2Workspace
from engine.ops.cuda_exl2_product import Exl2Product
from engine.ops.exl2 import WIDTHS, Exl2Tensors
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.engine.ops.exl2_matrices import layouts, random_exl2, same_bits
from tests.kernels.cuda.test_exl2_linear import ALL_WIDTHS, assert_product, inputs


@pytest.fixture(scope="module")
def workspace(emulated: EmulatedRuntime) -> Exl2Workspace:
    return Exl2Workspace(emulated, torch.float16, many_rows=range(1, 1000))


def product(workspace: Exl2Workspace, tensors: Exl2Tensors, x: torch.Tensor) -> torch.Tensor:
    """Of x in feature order, in a fresh output that holds no number where nothing was written."""
    workspace.slice.fill_(torch.nan)
    matrix = CudaExl2Matrix(workspace, tensors)
    out = torch.full((x.shape[0], tensors.out_features), torch.nan, dtype=x.dtype)
    Exl2Product(workspace, [matrix]).multiply_ordered(x[:, matrix.features.long()].contiguous(), [out])
    assert not workspace.arrivals.any()
    return out


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width(workspace: Exl2Workspace, width: int) -> None:
    tensors = random_exl2([(width, 32), (width, 64)], 160, seed=width)
    identity = torch.eye(96, dtype=torch.float16)
    assert_product(product(workspace, tensors, identity), identity, tensors, slack=0)


@pytest.mark.parametrize("rows", [1, 64, 65, 128, 129, 300])
@pytest.mark.parametrize("out_features", [130, 300])
def test_any_number_of_rows(workspace: Exl2Workspace, rows: int, out_features: int) -> None:
    tensors = random_exl2(ALL_WIDTHS, out_features, seed=rows, bias=True)
    x = inputs(rows, tensors.in_features, torch.float16, rows)
    assert_product(product(workspace, tensors, x), x, tensors)


@settings(max_examples=8, deadline=None)
@given(
    layout=layouts(max_groups=6, max_rows=96),
    out_features=st.integers(1, 300),
    rows=st.integers(1, 140),
    bias=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_product_equals_float64(
    workspace: Exl2Workspace, layout: list[tuple[int, int]], out_features: int, rows: int, bias: bool, seed: int
) -> None:
    tensors = random_exl2(layout, out_features, seed=seed, bias=bias)
    x = inputs(rows, tensors.in_features, torch.float16, seed)
    assert_product(product(workspace, tensors, x), x, tensors)


def test_the_order_of_blocks_and_threads_does_not_matter(emulated: EmulatedRuntime, workspace: Exl2Workspace) -> None:
    tensors = random_exl2(ALL_WIDTHS, 200, seed=3, bias=True)
    x = inputs(70, tensors.in_features, torch.float16, 3)
    expected = product(workspace, tensors, x)
    for schedule, seed in ((Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1)):
        with emulated.in_order(schedule, seed):
            assert same_bits(product(workspace, tensors, x), expected)


def test_it_is_used_only_where_it_is_asked_for(emulated: EmulatedRuntime) -> None:
    assert not Exl2Workspace(emulated, torch.float16).many_rows
    with pytest.raises(KernelArgumentError, match="takes float16 on devices"):
        Exl2Workspace(emulated, torch.bfloat16, many_rows=range(65, 512))


def test_several_matrices(workspace: Exl2Workspace) -> None:
    first = random_exl2([(4, 64)], 96, seed=1)
    second = replace(random_exl2([(3, 64)], 200, seed=2, bias=True), q_invperm=first.q_invperm)
    matrices = [CudaExl2Matrix(workspace, each) for each in (first, second)]
    x = inputs(66, 64, torch.float16, 1)
    outs = [torch.full((66, each.out_features), torch.nan, dtype=x.dtype) for each in matrices]
    Exl2Product(workspace, matrices).multiply_ordered(x[:, matrices[0].features.long()].contiguous(), outs)
    assert_product(outs[0], x, first)
    assert_product(outs[1], x, second)
