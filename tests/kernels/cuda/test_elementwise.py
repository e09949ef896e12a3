"""The CUDA kernels' own source on the emulated device, against float64: all ops but attention and EXL2."""

from __future__ import annotations

import pytest
import torch

from engine.errors import KernelArgumentError
from engine.ops.backend import AttentionBatch
from engine.ops.cuda_backend import CudaBackend
from engine.ops.torch_backend import TorchBackend
from tests.emulation.device import EmulatedRuntime, Schedule
from tests.kernels.cases import assert_close, float_types, generator

WIDTHS = (1, 31, 256, 257, 1003)
EPSILON = {torch.float16: 2**-10, torch.bfloat16: 2**-7}


def random(backend: CudaBackend, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed)).to(backend.activation_dtype)


def guarded(backend: CudaBackend, *shape: int, offset: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """An output of NaN inside a larger array of 7, both; `offset` elements before it."""
    count = int(torch.tensor(shape).prod())
    whole = torch.full((offset + count + 8,), 7.0, dtype=backend.activation_dtype)
    inner = whole[offset : offset + count].view(shape)
    inner.fill_(torch.nan)
    return inner, whole


def assert_guards(inner: torch.Tensor, whole: torch.Tensor, offset: int = 8) -> None:
    assert whole[:offset].eq(7).all()
    assert whole[offset + inner.numel() :].eq(7).all()


@float_types
@pytest.mark.parametrize("width", WIDTHS)
def test_embed(backend: CudaBackend, dtype: torch.dtype, width: int) -> None:
    table = torch.randn(50, width, generator=generator(width)).to(dtype)
    ids = torch.tensor([3, 49, 0, 3], dtype=torch.int32)
    out, whole = guarded(backend, 4, width)
    backend.embed(ids, table, out)
    assert torch.equal(out, table[ids.long()].to(backend.activation_dtype))
    assert_guards(out, whole)


@float_types
@pytest.mark.parametrize("width", WIDTHS)
def test_rms_norm(backend: CudaBackend, dtype: torch.dtype, width: int) -> None:
    x = random(backend, 3, width) * 3
    weight = torch.randn(width, generator=generator(1)).to(dtype)
    out, whole = guarded(backend, 3, width)
    backend.rms_norm(x, weight, 1e-5, out)
    expected = x.double() / (x.double().square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight.double()
    assert torch.allclose(out.double(), expected, rtol=EPSILON[out.dtype], atol=1e-6)
    assert_guards(out, whole)
    alone, _ = guarded(backend, 1, width)
    backend.rms_norm(x[1:2].clone(), weight, 1e-5, alone)
    assert torch.equal(alone[0], out[1])


@pytest.mark.parametrize("width", [1, 96, 300])
def test_rows_are_written_in_another_order(backend: CudaBackend, width: int) -> None:
    x, y, weight = (random(backend, *shape, seed=width) for shape in ((3, width), (3, width), (width,)))
    order = torch.randperm(width, generator=generator(2)).to(torch.int32)
    plain = torch.empty_like(x)
    ordered, whole = guarded(backend, 3, width)
    backend.rms_norm(x, weight, 1e-5, plain)
    backend.rms_norm(x, weight, 1e-5, ordered, order)
    assert torch.equal(ordered, plain[:, order.long()])
    backend.silu_mul(x, y, plain)
    ordered.fill_(torch.nan)
    backend.silu_mul(x, y, ordered, order)
    assert torch.equal(ordered, plain[:, order.long()])
    assert_guards(ordered, whole)


def test_orders_that_are_none_are_refused(backend: CudaBackend) -> None:
    row, out = random(backend, 1, 8), random(backend, 1, 8)
    short, wide = torch.zeros(7, dtype=torch.int32), torch.zeros(8, dtype=torch.int64)
    for order in (short, wide):
        with pytest.raises(KernelArgumentError, match="order"):
            backend.rms_norm(row, row[0], 1e-5, out, order)
        with pytest.raises(KernelArgumentError, match="order"):
            backend.silu_mul(row, row, out, order)
    with pytest.raises(KernelArgumentError, match="out cannot be gate or up"):
        backend.silu_mul(row, out, row, torch.arange(8, dtype=torch.int32))


@pytest.mark.parametrize(("q_heads", "kv_heads", "half"), [(1, 1, 1), (5, 2, 12), (8, 2, 64)])
def test_rotate(backend: CudaBackend, q_heads: int, kv_heads: int, half: int) -> None:
    q, k = random(backend, 4, q_heads, 2 * half), random(backend, 4, kv_heads, 2 * half, seed=1)
    angles = torch.randn(20, half, generator=generator(2))
    positions = torch.tensor([0, 19, 7, 7], dtype=torch.int32)
    expected_q, expected_k = q.clone(), k.clone()
    TorchBackend().rotate(expected_q, expected_k, positions, angles.cos(), angles.sin())
    backend.rotate(q, k, positions, angles.cos(), angles.sin())
    for actual, expected in ((q, expected_q), (k, expected_k)):
        assert torch.allclose(actual.double(), expected.double(), rtol=EPSILON[q.dtype], atol=1e-6)


@float_types
@pytest.mark.parametrize(("q_heads", "kv_heads", "half"), [(1, 1, 4), (5, 2, 12), (16, 3, 64)])
def test_rotate_and_store_gives_the_bits_of_both(
    backend: CudaBackend, dtype: torch.dtype, q_heads: int, kv_heads: int, half: int
) -> None:
    q, k, v = (random(backend, 4, heads, 2 * half, seed=heads) for heads in (q_heads, kv_heads, kv_heads))
    angles = torch.randn(20, half, generator=generator(2))
    positions = torch.tensor([0, 19, 7, 7], dtype=torch.int32)
    slots = torch.tensor([9, 0, -1, 4], dtype=torch.int32)
    batch = AttentionBatch(slots, slots, slots[:, None], slots)
    caches = [torch.full((2, kv_heads, 5, 2 * half), 7.0, dtype=dtype) for _ in range(4)]
    turned_q, turned_k = q.clone(), k.clone()
    backend.rotate(turned_q, turned_k, positions, angles.cos(), angles.sin())
    backend.store_kv(turned_k, v, caches[0], caches[1], batch)
    backend.rotate_and_store(q, k, v, positions, angles.cos(), angles.sin(), caches[2], caches[3], batch)
    assert torch.equal(q, turned_q)
    assert torch.equal(caches[0], caches[2])
    assert torch.equal(caches[1], caches[3])


@pytest.mark.parametrize("count", [1, 7, 8, 2048, 2051])
@pytest.mark.parametrize("offset", [8, 3])
def test_silu_mul_and_add(backend: CudaBackend, count: int, offset: int) -> None:
    gate, up = random(backend, 1, count) * 4, random(backend, 1, count, seed=1)
    out, whole = guarded(backend, 1, count, offset=offset)
    backend.silu_mul(gate, up, out)
    expected = torch.nn.functional.silu(gate.double()) * up.double()
    assert torch.allclose(out.double(), expected, rtol=EPSILON[out.dtype], atol=1e-6)
    assert_guards(out, whole, offset)
    out.copy_(up)
    backend.add(gate, out)
    assert torch.equal(out, gate + up)
    assert_guards(out, whole, offset)


def test_silu_mul_of_special_values_in_place(backend: CudaBackend) -> None:
    gate = torch.tensor([[0.0, float("inf"), float("nan"), 89.0, -1000.0]]).to(backend.activation_dtype)
    backend.silu_mul(gate, torch.ones_like(gate), gate)
    assert gate[0, 2].isnan()
    assert gate[0, [0, 1, 3, 4]].tolist() == [0.0, float("inf"), 89.0, 0.0]


def test_take_rows(backend: CudaBackend) -> None:
    x = random(backend, 6, 33)
    rows = torch.tensor([5, 0, 5], dtype=torch.int32)
    out, whole = guarded(backend, 3, 33)
    backend.take_rows(x, rows, out)
    assert torch.equal(out, x[rows.long()])
    assert_guards(out, whole)


@float_types
@pytest.mark.parametrize(("kv_heads", "block_size", "head_dim"), [(1, 1, 8), (3, 16, 24), (2, 5, 128)])
def test_store_kv(backend: CudaBackend, dtype: torch.dtype, kv_heads: int, block_size: int, head_dim: int) -> None:
    k, v = random(backend, 3, kv_heads, head_dim), random(backend, 3, kv_heads, head_dim, seed=1)
    slots = torch.tensor([2, -1, 4 * block_size - 1], dtype=torch.int32)
    batch = AttentionBatch(slots, slots, slots[:, None], slots)
    caches = [torch.full((4, kv_heads, block_size, head_dim), 7.0, dtype=dtype) for _ in range(4)]
    backend.store_kv(k, v, caches[0], caches[1], batch)
    TorchBackend().store_kv(k, v, caches[2], caches[3], batch)
    assert torch.equal(caches[0], caches[2])
    assert torch.equal(caches[1], caches[3])


@pytest.mark.parametrize(("schedule", "seed"), [(Schedule.REVERSE, 0), (Schedule.SHUFFLED, 1)])
def test_the_order_of_threads_does_not_matter(
    backend: CudaBackend, emulated: EmulatedRuntime, schedule: Schedule, seed: int
) -> None:
    def results() -> list[torch.Tensor]:
        x, up = random(backend, 3, 1003), random(backend, 3, 1003, seed=1)
        norm, gated = torch.empty_like(x), torch.empty_like(x)
        backend.rms_norm(x, up[0].clone(), 1e-6, norm)
        backend.silu_mul(x, up, gated)
        backend.add(x, up)
        return [norm, gated, up]

    expected = results()
    with emulated.in_order(schedule, seed):
        assert all(map(torch.equal, results(), expected))


def test_no_rows_are_no_work(backend: CudaBackend) -> None:
    none = random(backend, 0, 64)
    backend.silu_mul(none, none, none)
    backend.rms_norm(none, random(backend, 64), 1e-5, none)


def test_dense_product(backend: CudaBackend) -> None:
    weight, bias, x = random(backend, 5, 16), random(backend, 5, seed=1), random(backend, 3, 16, seed=2)
    out = torch.empty(3, 5, dtype=x.dtype)
    backend.prepare_dense(weight, bias)(x, out)
    assert_close(out, x.double() @ weight.double().t() + bias.double(), EPSILON[x.dtype])


def test_wrong_arguments_are_refused(backend: CudaBackend) -> None:
    row = random(backend, 1, 8)
    with pytest.raises(KernelArgumentError, match="token_ids"):
        backend.embed(torch.zeros(1, dtype=torch.int64), row, row.clone())
    with pytest.raises(KernelArgumentError, match="table must be float16"):
        backend.embed(torch.zeros(1, dtype=torch.int32), row.double(), row.clone())
    with pytest.raises(KernelArgumentError, match="weight"):
        backend.rms_norm(row, row[0, :7].clone(), 1e-5, row.clone())
    with pytest.raises(KernelArgumentError, match="up"):
        backend.silu_mul(row, random(backend, 1, 9), row.clone())
    with pytest.raises(KernelArgumentError, match="residual"):
        backend.add(row, row.float())
    with pytest.raises(KernelArgumentError, match="rows"):
        backend.take_rows(row, torch.zeros(2, dtype=torch.int32), row.clone())


def test_other_activations_are_refused(emulated: EmulatedRuntime) -> None:
    with pytest.raises(KernelArgumentError, match="float32"):
        CudaBackend(emulated, torch.float32)
