"""Embedding, norm, rotary embedding, activation and row selection against float64, and their batch invariance."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cpu_ext.loader import Isa
from engine.errors import KernelArgumentError
from engine.ops.torch_backend import TorchBackend
from tests.kernels.cases import assert_close, every_isa, float_types, generator
from tests.kernels.conftest import Backends

SEEDS = st.integers(0, 1 << 30)
LARGE = 1 << 16  # elements: enough for every op to run in parallel


@every_isa
@float_types
def test_embed(backends: Backends, isa: Isa, dtype: torch.dtype) -> None:
    for width in (1, 15, 64, 77):
        table = torch.randn(50, width, generator=generator(width)).to(dtype)
        ids = torch.tensor([3, 49, 0, 3], dtype=torch.int32)
        out = torch.empty(4, width)
        backends(isa).embed(ids, table, out)
        assert torch.equal(out, table[ids.long()].float())


@every_isa
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_converts_exactly(backends: Backends, isa: Isa, dtype: torch.dtype) -> None:
    table = torch.arange(-(1 << 15), 1 << 15, dtype=torch.int32).to(torch.int16).view(dtype).reshape(4, -1)
    out = torch.empty(4, table.shape[1])
    backends(isa).embed(torch.arange(4, dtype=torch.int32), table, out)
    assert torch.equal(out.nan_to_num(nan=12345.0), table.float().nan_to_num(nan=12345.0))


@every_isa
@float_types
@settings(max_examples=15)
@given(width=st.integers(1, 700), rows=st.integers(1, 9), seed=SEEDS)
def test_rms_norm(backends: Backends, isa: Isa, dtype: torch.dtype, width: int, rows: int, seed: int) -> None:
    x = torch.randn(rows, width, generator=generator(seed)) * 3
    weight = torch.randn(width, generator=generator(seed + 1)).to(dtype)
    out = torch.empty_like(x)
    backends(isa, 2).rms_norm(x, weight, 1e-5, out)
    assert_close(out, x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double(), 2e-6)
    for row in range(rows):
        alone = torch.empty(1, width)
        backends(isa).rms_norm(x[row : row + 1].clone(), weight, 1e-5, alone)
        assert torch.equal(alone[0], out[row])


@every_isa
@settings(max_examples=15)
@given(half=st.integers(1, 70), q_heads=st.integers(1, 5), kv_heads=st.integers(1, 3), seed=SEEDS)
def test_rotate(backends: Backends, isa: Isa, half: int, q_heads: int, kv_heads: int, seed: int) -> None:
    random = generator(seed)
    q = torch.randn(4, q_heads, 2 * half, generator=random)
    k = torch.randn(4, kv_heads, 2 * half, generator=random)
    angles = torch.randn(20, half, generator=random)
    positions = torch.tensor([0, 19, 7, 7], dtype=torch.int32)
    turned = torch.polar(torch.ones(4, 1, half, dtype=torch.float64), angles[positions.long()].double()[:, None])

    def expected(x: torch.Tensor) -> torch.Tensor:
        result = torch.complex(x[..., :half].double(), x[..., half:].double()) * turned
        return torch.cat([result.real, result.imag], -1)

    expected_q, expected_k = expected(q), expected(k)
    backends(isa).rotate(q, k, positions, angles.cos(), angles.sin())
    assert_close(q, expected_q, 1e-6)
    assert_close(k, expected_k, 1e-6)


@every_isa
def test_silu_mul_is_accurate_everywhere(backends: Backends, isa: Isa) -> None:
    gate = torch.cat([torch.linspace(-100, 100, 20001), torch.logspace(-30, 30, 999), -torch.logspace(-30, 30, 998)])
    up = torch.linspace(0.5, 2, gate.numel())
    out = torch.empty(1, gate.numel())
    backends(isa).silu_mul(gate[None], up[None], out)
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    # below e^-87 the exponential is flushed to zero
    assert torch.allclose(out[0].double(), expected, rtol=2.5e-7, atol=1e-35)


@every_isa
def test_silu_mul_of_special_values(backends: Backends, isa: Isa) -> None:
    gate = torch.tensor([[0.0, -0.0, float("inf"), float("nan"), 89.0, -1000.0]])
    out = torch.empty_like(gate)
    backends(isa).silu_mul(gate, torch.ones_like(gate), out)
    assert out[0, :3].tolist() == [0.0, 0.0, float("inf")]
    assert out[0, 3].isnan()
    assert out[0, 4:].tolist() == [89.0, 0.0]


@every_isa
def test_silu_mul_in_place_and_cut_anywhere(backends: Backends, isa: Isa) -> None:
    gate = torch.randn(1, 1003, generator=generator(1))
    up = torch.randn(1, 1003, generator=generator(2))
    whole = torch.empty_like(gate)
    backends(isa).silu_mul(gate, up, whole)
    for start, end in ((0, 1), (1, 18), (5, 1003)):
        part = gate[:, start:end].clone()
        backends(isa).silu_mul(part, up[:, start:end].clone(), part)
        assert torch.equal(part, whole[:, start:end])


@every_isa
def test_add(backends: Backends, isa: Isa) -> None:
    x = torch.randn(3, 101, generator=generator(1))
    residual = torch.randn(3, 101, generator=generator(2))
    expected = x + residual
    backends(isa).add(x, residual)
    assert torch.equal(residual, expected)


@every_isa
def test_take_rows(backends: Backends, isa: Isa) -> None:
    x = torch.randn(6, 33, generator=generator(1))
    rows = torch.tensor([5, 0, 5], dtype=torch.int32)
    out = torch.empty(3, 33)
    backends(isa).take_rows(x, rows, out)
    assert torch.equal(out, x[rows.long()])


@every_isa
def test_threads_do_not_change_large_ops(backends: Backends, isa: Isa) -> None:
    x = torch.randn(33, LARGE // 32, generator=generator(1))
    up = torch.randn(33, LARGE // 32, generator=generator(2))
    weight = torch.ones(LARGE // 32)
    results = []
    for threads in (1, 3):
        backend = backends(isa, threads)
        norm, gated, total = torch.empty_like(x), torch.empty_like(x), up.clone()
        backend.rms_norm(x, weight, 1e-6, norm)
        backend.silu_mul(x, up, gated)
        backend.add(x, total)
        results.append(torch.stack([norm, gated, total]))
    assert torch.equal(results[0], results[1])


@every_isa
def test_agrees_with_the_torch_backend(backends: Backends, isa: Isa) -> None:
    native, reference = backends(isa, 2), TorchBackend()
    x = torch.randn(5, 96, generator=generator(3))
    up = torch.randn(5, 96, generator=generator(4))
    weight = torch.randn(96, generator=generator(5))
    outputs = []
    for backend in (native, reference):
        norm, gated, total = torch.empty_like(x), torch.empty_like(x), up.clone()
        q, k = x.reshape(5, 4, 24).clone(), up.reshape(5, 4, 24).clone()
        backend.rms_norm(x, weight, 1e-6, norm)
        backend.silu_mul(x, up, gated)
        backend.add(x, total)
        backend.rotate(
            q, k, torch.arange(5, dtype=torch.int32), weight.reshape(8, 12).cos(), weight.reshape(8, 12).sin()
        )
        outputs.append(torch.stack([norm, gated, total, q.reshape(5, 96), k.reshape(5, 96)]))
    assert_close(outputs[0], outputs[1], 1e-6)


def test_wrong_arguments_are_refused(backends: Backends) -> None:
    backend = backends(Isa.PORTABLE)
    row = torch.zeros(1, 8)
    with pytest.raises(KernelArgumentError, match="token_ids"):
        backend.embed(torch.zeros(1, dtype=torch.int64), row, row.clone())
    with pytest.raises(KernelArgumentError, match="table must be float16"):
        backend.embed(torch.zeros(1, dtype=torch.int32), row.double(), row.clone())
    with pytest.raises(KernelArgumentError, match="weight"):
        backend.rms_norm(row, torch.zeros(7), 1e-5, row.clone())
    with pytest.raises(KernelArgumentError, match="up"):
        backend.silu_mul(row, torch.zeros(1, 9), row.clone())
    with pytest.raises(KernelArgumentError, match="residual"):
        backend.add(row, row.double())
    with pytest.raises(KernelArgumentError, match="even"):
        backend.rotate(
            torch.zeros(1, 1, 3), torch.zeros(1, 1, 3), torch.zeros(1, dtype=torch.int32), row[:, :1], row[:, :1]
        )
    with pytest.raises(KernelArgumentError, match="rows"):
        backend.take_rows(row, torch.zeros(2, dtype=torch.int32), row.clone())
