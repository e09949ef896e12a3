"""The native EXL2 product against the exact decode, and its batch invariance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_ext.loader import Isa
from engine.errors import CheckpointError, KernelArgumentError
from engine.ops.exl2 import WIDTHS, Exl2Tensors, decode
from tests.engine.ops.exl2_matrices import layouts, random_exl2
from tests.engine.ops.golden_matrices import EXL2_GOLDEN, golden_exl2
from tests.kernels.cases import assert_close, assert_product, every_isa, generator, run_linear
from tests.kernels.conftest import Backends


def true_weight(tensors: Exl2Tensors) -> torch.Tensor:
    return decode(tensors)[:, : tensors.out_features]


def true_bias(tensors: Exl2Tensors) -> torch.Tensor | None:
    return None if tensors.bias is None else tensors.bias[: tensors.out_features]


@every_isa
@pytest.mark.parametrize("name", EXL2_GOLDEN)
def test_golden_files(backends: Backends, golden: Path, isa: Isa, name: str) -> None:
    tensors, reference, _ = golden_exl2(golden / f"{name}.safetensors")
    outputs = slice(0, tensors.out_features)
    kernel = backends(isa, 2).prepare_exl2(tensors)
    assert_close(run_linear(kernel, reference["x"].float()), reference["y"][:, outputs])

    without_bias = backends(isa, 2).prepare_exl2(replace(tensors, bias=None))
    decoded = run_linear(without_bias, torch.eye(tensors.in_features))
    assert torch.equal(decoded, reference["weight"][:, outputs].float())


@every_isa
@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_decodes_exactly(backends: Backends, isa: Isa, width: int) -> None:
    tensors = random_exl2([(width, 32), (width, 128), (width, 64)], 96, seed=width)
    kernel = backends(isa, 1).prepare_exl2(tensors)
    assert torch.equal(run_linear(kernel, torch.eye(tensors.in_features)), decode(tensors).float())


@every_isa
@settings(max_examples=25)
@given(
    layout=layouts(),
    out_features=st.integers(1, 130),
    rows=st.integers(1, 20),
    bias=st.sampled_from([None, torch.float16, torch.bfloat16, torch.float32]),
    prescale=st.sampled_from([1.0, 0.2213, 7.5]),
    largest_scale=st.sampled_from([4e-3, 0.05, 3.0]),
    seed=st.integers(0, 1 << 30),
)
def test_product_equals_float64(
    backends: Backends,
    isa: Isa,
    layout: list[tuple[int, int]],
    out_features: int,
    rows: int,
    bias: torch.dtype | None,
    prescale: float,
    largest_scale: float,
    seed: int,
) -> None:
    tensors = random_exl2(layout, out_features, seed=seed, bias=True, prescale=prescale, largest_scale=largest_scale)
    assert tensors.bias is not None
    tensors = replace(tensors, bias=None if bias is None else tensors.bias.to(bias))
    kernel = backends(isa, 2).prepare_exl2(tensors)
    assert (kernel.in_features, kernel.out_features) == (tensors.in_features, out_features)
    x = torch.randn(rows, tensors.in_features, generator=generator(seed))
    assert_product(run_linear(kernel, x), x, true_weight(tensors), true_bias(tensors))


@every_isa
@settings(max_examples=10)
@given(layout=layouts(), out_features=st.integers(1, 130), rows=st.integers(2, 150), seed=st.integers(0, 1 << 30))
def test_rows_do_not_depend_on_neighbours_or_threads(
    backends: Backends, isa: Isa, layout: list[tuple[int, int]], out_features: int, rows: int, seed: int
) -> None:
    tensors = random_exl2(layout, out_features, seed=seed, bias=True)
    x = torch.randn(rows, tensors.in_features, generator=generator(seed))
    single = backends(isa, 1).prepare_exl2(tensors)
    alone = torch.cat([run_linear(single, x[row : row + 1].clone()) for row in range(rows)])
    for threads in (1, 2, 3, 4):
        kernel = backends(isa, threads).prepare_exl2(tensors)
        assert torch.equal(run_linear(kernel, x), alone)
        for start, end in ((0, rows // 2), (rows // 3, rows), (rows - 1, rows)):
            assert torch.equal(run_linear(kernel, x[start:end].clone()), alone[start:end])


def test_instruction_sets_agree(backends: Backends) -> None:
    tensors = random_exl2([(8, 32), (5, 128), (3, 96), (2, 64)], 75, seed=3)
    x = torch.randn(9, tensors.in_features, generator=generator(3))
    expected = run_linear(backends(Isa.PORTABLE, 1).prepare_exl2(tensors), x)
    for isa in (Isa.AVX2, Isa.AVX512):
        assert_close(run_linear(backends(isa, 1).prepare_exl2(tensors), x), expected, 2e-6)


def test_source_may_be_freed(backends: Backends) -> None:
    tensors = random_exl2([(4, 128)], 64, seed=5, bias=True)
    assert tensors.bias is not None
    kernel = backends(Isa.PORTABLE, 1).prepare_exl2(tensors)
    x = torch.randn(2, 128, generator=generator(5))
    weight, bias = true_weight(tensors), true_bias(replace(tensors, bias=tensors.bias.clone()))
    for tensor in (tensors.q_weight, tensors.q_invperm, tensors.q_scale, tensors.q_scale_max, tensors.bias):
        assert tensor is not None
        tensor.zero_()
    assert_product(run_linear(kernel, x), x, weight, bias)


def test_codes_keep_their_width(backends: Backends) -> None:
    tensors = random_exl2([(3, 4096)], 1024, seed=6)
    bits = backends(Isa.PORTABLE, 1).prepare_exl2(tensors).nbytes * 8 / (4096 * 1024)
    assert 3.0 < bits < 3.1


def test_wrong_tensors_are_refused(backends: Backends) -> None:
    backend = backends(Isa.PORTABLE, 1)
    tensors = random_exl2([(4, 64)], 64, seed=7)
    for name, wrong in (
        ("q_invperm", replace(tensors, q_invperm=torch.zeros(64, dtype=torch.int32))),
        ("q_invperm", replace(tensors, q_invperm=torch.arange(64))),
        ("q_scale", replace(tensors, q_scale=tensors.q_scale[:, :4])),
        ("q_scale_max", replace(tensors, q_scale_max=tensors.q_scale_max.float())),
        ("bias", replace(tensors, bias=torch.zeros(63))),
    ):
        with pytest.raises(KernelArgumentError, match=name):
            backend.prepare_exl2(wrong)
    with pytest.raises(KernelArgumentError, match="65 outputs"):
        backend.prepare_exl2(replace(tensors, out_features=65))
    with pytest.raises(CheckpointError, match="7 bits"):
        backend.prepare_exl2(replace(tensors, q_groups=torch.tensor([7, 0], dtype=torch.int16)))


def test_wrong_activations_are_refused(backends: Backends) -> None:
    kernel = backends(Isa.PORTABLE, 1).prepare_exl2(random_exl2([(4, 64)], 64, seed=8))
    with pytest.raises(KernelArgumentError, match="x must be"):
        kernel(torch.zeros(2, 32), torch.zeros(2, 64))
    with pytest.raises(KernelArgumentError, match="out must be"):
        kernel(torch.zeros(2, 64), torch.zeros(3, 64))
    with pytest.raises(KernelArgumentError, match="not contiguous"):
        kernel(torch.zeros(64, 2).t(), torch.zeros(2, 64))
