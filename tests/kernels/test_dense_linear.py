"""The native product with plain matrices, and its batch invariance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_ext.loader import Isa
from engine.errors import KernelArgumentError
from tests.kernels.cases import assert_product, every_isa, float_types, generator, run_linear
from tests.kernels.conftest import Backends


@every_isa
@float_types
@settings(max_examples=15)
@given(
    in_features=st.integers(1, 300),
    out_features=st.integers(1, 100),
    rows=st.integers(1, 20),
    bias=st.booleans(),
    seed=st.integers(0, 1 << 30),
)
def test_product_equals_float64(
    backends: Backends,
    isa: Isa,
    dtype: torch.dtype,
    in_features: int,
    out_features: int,
    rows: int,
    bias: bool,
    seed: int,
) -> None:
    random = generator(seed)
    weight = torch.randn(out_features, in_features, generator=random).to(dtype)
    offset = torch.randn(out_features, generator=random).to(dtype) if bias else None
    x = torch.randn(rows, in_features, generator=random)
    kernel = backends(isa, 2).prepare_dense(weight, offset)
    assert_product(run_linear(kernel, x), x, weight.t(), offset)
    assert torch.equal(
        run_linear(backends(isa, 2).prepare_dense(weight, None), torch.eye(in_features)), weight.float().t()
    )


@every_isa
@float_types
@settings(max_examples=8)
@given(
    in_features=st.integers(1, 300),
    out_features=st.integers(1, 100),
    rows=st.integers(2, 150),
    seed=st.integers(0, 1 << 30),
)
def test_rows_do_not_depend_on_neighbours_or_threads(
    backends: Backends, isa: Isa, dtype: torch.dtype, in_features: int, out_features: int, rows: int, seed: int
) -> None:
    random = generator(seed)
    weight = torch.randn(out_features, in_features, generator=random).to(dtype)
    x = torch.randn(rows, in_features, generator=random)
    single = backends(isa, 1).prepare_dense(weight, None)
    alone = torch.cat([run_linear(single, x[row : row + 1].clone()) for row in range(rows)])
    for threads in (1, 2, 3, 4):
        assert torch.equal(run_linear(backends(isa, threads).prepare_dense(weight, None), x), alone)


def test_weights_keep_their_dtype(backends: Backends) -> None:
    weight = torch.zeros(64, 256, dtype=torch.bfloat16)
    assert backends(Isa.PORTABLE, 1).prepare_dense(weight, None).nbytes == 64 * 256 * 2


def test_views_are_taken_over(backends: Backends) -> None:
    whole = torch.randn(40, 48, generator=generator(1))
    x = torch.randn(3, 40, generator=generator(2))
    kernel = backends(Isa.PORTABLE, 1).prepare_dense(whole.t(), None)
    assert_product(run_linear(kernel, x), x, whole, None)


def test_no_rows(backends: Backends) -> None:
    kernel = backends(Isa.PORTABLE, 2).prepare_dense(torch.ones(8, 8), None)
    assert run_linear(kernel, torch.empty(0, 8)).shape == (0, 8)


@pytest.mark.parametrize(
    ("weight", "bias"),
    [
        (torch.zeros(4, 4, dtype=torch.int8), None),
        (torch.zeros(4), None),
        (torch.zeros(0, 4), None),
        (torch.zeros(4, 4), torch.zeros(3)),
    ],
)
def test_wrong_weights_are_refused(backends: Backends, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    with pytest.raises(KernelArgumentError):
        backends(Isa.PORTABLE, 1).prepare_dense(weight, bias)
