"""EXL2 matrices on the emulated device: the exact decode, the product, and what it does not depend on.

The emulated matrix instruction takes its fragments apart by the tables of the PTX manual, so a right product says that
the tiles are in fragment order.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.gpu.golden import decode_from_file
from engine.errors import CheckpointError, KernelArgumentError
from engine.ops.backend_memory import Exl2Shape
from engine.ops.cuda_backend import CudaBackend
from engine.ops.cuda_exl2_matrix import FUSED_ROWS, Exl2Workspace
from engine.ops.cuda_linear import CudaExl2Linear, inputs_bytes
from engine.ops.exl2 import WIDTHS, Exl2Tensors, decode
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.engine.ops.exl2_matrices import layouts, random_exl2, same_bits
from tests.engine.ops.golden_matrices import EXL2_GOLDEN, golden_exl2
from tests.kernels.cases import generator

ALL_WIDTHS = [(8, 32), (6, 64), (5, 128), (4, 96), (3, 32), (2, 64)]


@pytest.fixture(scope="module", params=[torch.float16, torch.bfloat16], ids=str)
def workspace(request: pytest.FixtureRequest, emulated: EmulatedRuntime) -> Exl2Workspace:
    return Exl2Workspace(emulated, request.param)


@pytest.fixture(scope="module")
def half_workspace(emulated: EmulatedRuntime) -> Exl2Workspace:
    return Exl2Workspace(emulated, torch.float16)


def product(kernel: CudaExl2Linear, x: torch.Tensor) -> torch.Tensor:
    """In a fresh output that holds no number where nothing was written."""
    out = torch.full((x.shape[0], kernel.out_features), float("nan"), dtype=x.dtype)
    kernel(x, out)
    return out


def inputs(rows: int, width: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    return torch.randn(rows, width, generator=generator(seed)).to(dtype)


def assert_product(actual: torch.Tensor, x: torch.Tensor, tensors: Exl2Tensors, slack: float = 1e-5) -> None:
    """Each output is the exact one, rounded to its type; `slack` of its terms' magnitudes is left to float32 sums.

    Of what the type cannot hold only the sign is held to anything.
    """
    weight = decode(tensors)[:, : tensors.out_features].double()
    expected, magnitude = x.double() @ weight, x.double().abs() @ weight.abs()
    if tensors.bias is not None:
        expected += tensors.bias[: tensors.out_features].double()
    error = (actual.double() - expected).abs()
    allowed = torch.finfo(actual.dtype).eps / 2 * expected.abs() + slack * magnitude + 1e-7
    held = expected.abs() + slack * magnitude < torch.finfo(actual.dtype).max
    assert not actual.isnan().any()
    assert (error <= allowed)[held].all(), f"{(error / allowed)[held].max().item():.2f} times what is allowed"
    assert torch.equal(actual[~held].double().sign(), expected[~held].sign())


@pytest.mark.parametrize("name", EXL2_GOLDEN)
def test_golden_files(emulated: EmulatedRuntime, half_workspace: Exl2Workspace, golden: Path, name: str) -> None:
    tensors, reference, _ = golden_exl2(golden / f"{name}.safetensors")
    assert same_bits(decode_from_file(emulated, tensors), reference["weight"])
    kernel = CudaExl2Linear(half_workspace, tensors)
    assert same_bits(kernel.matrix.decoded(), reference["weight"][:, : tensors.out_features].contiguous())
    assert_product(product(kernel, reference["x"]), reference["x"], tensors)


@pytest.mark.parametrize("width", WIDTHS)
def test_every_width_decodes_exactly_in_the_product(half_workspace: Exl2Workspace, width: int) -> None:
    tensors = random_exl2([(width, 32), (width, 128), (width, 64)], 160, seed=width)
    kernel = CudaExl2Linear(half_workspace, tensors)
    identity = torch.eye(tensors.in_features, dtype=torch.float16)
    rows = [product(kernel, part) for part in identity.split(32)]
    assert torch.equal(torch.cat(rows), decode(tensors))


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65])
def test_any_number_of_rows(workspace: Exl2Workspace, rows: int) -> None:
    tensors = random_exl2(ALL_WIDTHS, 200, seed=rows, bias=True)
    x = inputs(rows, tensors.in_features, workspace.dtype, rows)
    # beyond FUSED_ROWS the weights themselves are rounded to the type of the activations
    slack = 1e-5 if rows <= FUSED_ROWS else torch.finfo(workspace.dtype).eps
    assert_product(product(CudaExl2Linear(workspace, tensors), x), x, tensors, slack)


def test_no_rows(half_workspace: Exl2Workspace) -> None:
    assert product(CudaExl2Linear(half_workspace, random_exl2([(4, 32)])), torch.zeros(0, 32).half()).shape == (0, 32)


@settings(max_examples=25)
@given(
    layout=layouts(max_groups=6, max_rows=256),
    out_features=st.integers(1, 400),
    rows=st.integers(1, 40),
    bias=st.booleans(),
    prescale=st.sampled_from([1.0, 0.2213, 7.5]),
    largest_scale=st.sampled_from([4e-3, 0.05, 3.0]),
    seed=st.integers(0, 1 << 30),
)
def test_product_equals_float64(
    workspace: Exl2Workspace,
    layout: list[tuple[int, int]],
    out_features: int,
    rows: int,
    bias: bool,
    prescale: float,
    largest_scale: float,
    seed: int,
) -> None:
    tensors = random_exl2(layout, out_features, seed=seed, bias=bias, prescale=prescale, largest_scale=largest_scale)
    kernel = CudaExl2Linear(workspace, tensors)
    x = inputs(rows, tensors.in_features, workspace.dtype, seed)
    assert_product(product(kernel, x), x, tensors)
    assert not workspace.arrivals.any()


@settings(max_examples=10)
@given(
    layout=layouts(), out_features=st.integers(1, 300), rows=st.integers(2, FUSED_ROWS), seed=st.integers(0, 1 << 30)
)
def test_rows_do_not_depend_on_neighbours(
    workspace: Exl2Workspace, layout: list[tuple[int, int]], out_features: int, rows: int, seed: int
) -> None:
    tensors = random_exl2(layout, out_features, seed=seed, bias=True)
    kernel = CudaExl2Linear(workspace, tensors)
    x = inputs(rows, tensors.in_features, workspace.dtype, seed)
    together = product(kernel, x)
    for start, end in ((0, 1), (rows - 1, rows), (rows // 3, rows)):
        assert same_bits(product(kernel, x[start:end].clone()), together[start:end].clone())


@pytest.mark.parametrize("rows", [1, 19])
def test_the_order_of_blocks_and_threads_does_not_matter(
    emulated: EmulatedRuntime, half_workspace: Exl2Workspace, rows: int
) -> None:
    tensors = random_exl2(ALL_WIDTHS, 300, seed=11, bias=True)
    kernel = CudaExl2Linear(half_workspace, tensors)
    x = inputs(rows, tensors.in_features, torch.float16, 11)
    expected = product(kernel, x)
    for schedule, seed in ((Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1), (Schedule.SHUFFLED, 2)):
        with emulated.in_order(schedule, seed):
            assert same_bits(product(kernel, x), expected)


def test_many_rows_are_multiplied_slice_by_slice(emulated: EmulatedRuntime) -> None:
    workspace = Exl2Workspace(emulated, torch.float16)
    tensors = random_exl2([(5, 64), (3, 64)], 333, seed=4, bias=True)
    kernel = CudaExl2Linear(workspace, tensors)
    x = inputs(FUSED_ROWS + 3, 128, torch.float16, 4)
    whole = product(kernel, x)
    workspace.slice = workspace.slice[: 128 * 128]
    assert_product(product(kernel, x), x, tensors, 1e-3)
    assert_product(whole, x, tensors, 1e-3)
    assert same_bits(kernel.matrix.decoded(), decode(tensors)[:, :333].contiguous())


@pytest.mark.parametrize("magnitude", [1e-30, 1.0, 1e20])
def test_bfloat16_rows_keep_their_range(emulated: EmulatedRuntime, magnitude: float) -> None:
    workspace = Exl2Workspace(emulated, torch.bfloat16)
    tensors = random_exl2([(4, 128)], 64, seed=6)
    x = inputs(5, 128, torch.float32, 6) * magnitude
    x[1] = 0
    x[2] *= 1e-6
    out = product(CudaExl2Linear(workspace, tensors), x.bfloat16())
    for row in range(5):
        scale = x[row].abs().max().clamp_min(1e-38)
        assert_product(out[row : row + 1].float() / scale, x[row : row + 1].bfloat16().float() / scale, tensors, 4e-3)


@pytest.mark.parametrize(("layout", "out_features", "bias"), [(ALL_WIDTHS, 200, True), ([(4, 32)], 32, False)])
def test_memory_is_told_in_advance(
    emulated: EmulatedRuntime, layout: list[tuple[int, int]], out_features: int, bias: bool
) -> None:
    backend = CudaBackend(emulated, torch.float16)
    tensors = random_exl2(layout, out_features, bias=bias)
    words, groups = tensors.q_weight.shape[0], len(layout)
    shape = Exl2Shape(tensors.in_features, out_features, words, groups, bias=bias)
    assert backend.prepare_exl2(tensors).nbytes == backend.memory.exl2(shape)


def test_room_for_inputs_is_told_in_advance(emulated: EmulatedRuntime) -> None:
    workspace = Exl2Workspace(emulated, torch.float16)
    assert workspace.inputs.nbytes == 0
    for width in (32, 128, 64):
        workspace.reserve(width)
    assert workspace.inputs.nbytes == inputs_bytes(128)


def test_codes_keep_their_width(half_workspace: Exl2Workspace) -> None:
    tensors = random_exl2([(3, 128)] * 8, 1024, seed=6)
    assert 3.0 < CudaExl2Linear(half_workspace, tensors).nbytes * 8 / (1024 * 1024) < 3.2


def test_wrong_tensors_are_refused(half_workspace: Exl2Workspace) -> None:
    tensors = random_exl2([(4, 64)], 64, seed=7)
    for name, wrong in (
        ("q_invperm", replace(tensors, q_invperm=torch.zeros(64, dtype=torch.int32))),
        ("q_scale", replace(tensors, q_scale=tensors.q_scale[:, :4])),
        ("q_scale_max", replace(tensors, q_scale_max=tensors.q_scale_max.float())),
        ("bias", replace(tensors, bias=torch.zeros(63))),
    ):
        with pytest.raises(KernelArgumentError, match=name):
            CudaExl2Linear(half_workspace, wrong)
    with pytest.raises(CheckpointError, match="7 bits"):
        CudaExl2Linear(half_workspace, replace(tensors, q_groups=torch.tensor([7, 0], dtype=torch.int16)))


def test_wrong_activations_are_refused(half_workspace: Exl2Workspace) -> None:
    kernel = CudaExl2Linear(half_workspace, random_exl2([(4, 64)], 64, seed=8))
    x, out = torch.zeros(2, 64).half(), torch.zeros(2, 64).half()
    with pytest.raises(KernelArgumentError, match="x must be"):
        kernel(x[:, :32].contiguous(), out)
    with pytest.raises(KernelArgumentError, match="x must be"):
        kernel(x.float(), out)
    with pytest.raises(KernelArgumentError, match="out must be"):
        kernel(x, out[:1])
