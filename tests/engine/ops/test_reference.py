"""The torch reference of every op against the formula written out, entry by entry."""

from __future__ import annotations

import math

import pytest
import torch

from engine.ops.exl2 import decode
from engine.ops.torch_backend import TorchBackend
from tests.engine.model.exl2_directory import quantize_to_nearest

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture
def backend() -> TorchBackend:
    return TorchBackend()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_rms_norm(backend: TorchBackend, generator: torch.Generator) -> None:
    x, weight = torch.randn(3, 5, generator=generator), torch.randn(5, generator=generator)
    out = torch.empty(3, 5)
    backend.rms_norm(x, weight, 0.5, out)
    for row in range(3):
        root = math.sqrt(sum(float(v) ** 2 for v in x[row]) / 5 + 0.5)
        torch.testing.assert_close(out[row], x[row] / root * weight)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rms_norm_does_not_overflow_in_half_precision(dtype: torch.dtype, backend: TorchBackend) -> None:
    x, out = torch.full((1, 8), 60_000.0, dtype=dtype), torch.empty(1, 8, dtype=dtype)
    backend.rms_norm(x, torch.ones(8, dtype=dtype), 1e-6, out)
    torch.testing.assert_close(out, torch.ones(1, 8, dtype=dtype))


def test_rotate_turns_feature_i_with_feature_i_plus_half(backend: TorchBackend, generator: torch.Generator) -> None:
    angles = torch.rand(6, 2, generator=generator) * 3
    q, k = torch.randn(2, 3, 4, generator=generator), torch.randn(2, 1, 4, generator=generator)
    positions = ints(5, 2)
    before = (q.clone(), k.clone())
    backend.rotate(q, k, positions, angles.cos(), angles.sin())
    for turned, original in zip((q, k), before, strict=True):
        for token, head, pair in [(t, h, i) for t in range(2) for h in range(turned.shape[1]) for i in range(2)]:
            angle = float(angles[positions[token], pair])
            as_complex = complex(original[token, head, pair], original[token, head, pair + 2])
            expected = as_complex * complex(math.cos(angle), math.sin(angle))
            assert abs(complex(turned[token, head, pair], turned[token, head, pair + 2]) - expected) < 1e-5


def test_silu_mul_may_write_over_the_gate(backend: TorchBackend, generator: torch.Generator) -> None:
    gate, up = torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)
    expected = gate / (1 + torch.exp(-gate)) * up
    backend.silu_mul(gate, up, gate)
    torch.testing.assert_close(gate, expected)


def test_add_is_in_place(backend: TorchBackend) -> None:
    residual = torch.ones(2, 2)
    backend.add(torch.full((2, 2), 2.0), residual)
    assert torch.equal(residual, torch.full((2, 2), 3.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_embed_reads_tables_of_any_float_type(dtype: torch.dtype, backend: TorchBackend) -> None:
    table = torch.arange(12).view(4, 3).to(dtype)
    out = torch.empty(3, 3)
    backend.embed(ints(3, 0, 3), table, out)
    assert torch.equal(out, torch.tensor([[9.0, 10.0, 11.0], [0.0, 1.0, 2.0], [9.0, 10.0, 11.0]]))


def test_take_rows(backend: TorchBackend) -> None:
    out = torch.empty(2, 2)
    backend.take_rows(torch.arange(8.0).view(4, 2), ints(1, 3), out)
    assert torch.equal(out, torch.tensor([[2.0, 3.0], [6.0, 7.0]]))


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dense_linear(dtype: torch.dtype, with_bias: bool, backend: TorchBackend, generator: torch.Generator) -> None:
    weight = torch.randn(5, 3, generator=generator).to(dtype)
    bias = torch.randn(5, generator=generator).to(dtype) if with_bias else None
    kernel = backend.prepare_dense(weight, bias)
    x, out = torch.randn(4, 3, generator=generator), torch.empty(4, 5)
    expected = x @ weight.float().t() + (0 if bias is None else bias.float())
    weight.zero_()  # the source may be freed or reused
    kernel(x, out)
    torch.testing.assert_close(out, expected)
    assert (kernel.in_features, kernel.out_features) == (3, 5)
    assert kernel.nbytes == 4 * (15 + (5 if with_bias else 0))


def test_exl2_linear_drops_padded_outputs(backend: TorchBackend, generator: torch.Generator) -> None:
    tensors = quantize_to_nearest(
        torch.randn(64, 40, generator=generator), (4, 3), torch.randperm(64, generator=generator)
    )
    kernel = backend.prepare_exl2(tensors)
    x, out = torch.randn(3, 64, generator=generator), torch.empty(3, 40)
    kernel(x, out)
    torch.testing.assert_close(out, x @ decode(tensors)[:, :40].float())
    assert (kernel.in_features, kernel.out_features) == (64, 40)


def test_name_and_threads() -> None:
    assert TorchBackend().name == "torch"
    before = torch.get_num_threads()
    try:
        assert TorchBackend(threads=2).threads == 2
    finally:
        torch.set_num_threads(before)
