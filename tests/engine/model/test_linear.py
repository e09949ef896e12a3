"""Matrices with the same input: together where the backend can, one by one where it cannot or a kernel was replaced."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from engine.model.linear import Linear, LinearGroup
from engine.ops.backend import GroupKernel, LinearKernel
from engine.ops.torch_backend import TorchBackend

ORDER = torch.tensor([2, 0, 1], dtype=torch.int32)


class Together:
    """Takes features in ORDER."""

    input_order = ORDER
    input_places = torch.argsort(ORDER).to(torch.int32)
    nbytes = 7

    def __init__(self, kernels: Sequence[LinearKernel]) -> None:
        self.kernels = tuple(kernels)

    def __call__(self, x: torch.Tensor, outs: Sequence[torch.Tensor]) -> None:
        natural = torch.empty_like(x)
        natural[:, ORDER.long()] = x
        for kernel, out in zip(self.kernels, outs, strict=True):
            kernel(natural, out)


class GroupingBackend(TorchBackend):
    """Groups whatever it is given."""

    def prepare_group(self, kernels: Sequence[LinearKernel]) -> GroupKernel | None:
        return Together(kernels)


def linears(backend: TorchBackend) -> list[Linear]:
    weights = [torch.arange(3.0 * outputs).reshape(outputs, 3) for outputs in (2, 4)]
    return [Linear(f"matrix {index}", backend.prepare_dense(each, None)) for index, each in enumerate(weights)]


def products(group: LinearGroup, x: torch.Tensor) -> list[torch.Tensor]:
    outs = [torch.empty(2, 2), torch.empty(2, 4)]
    group.forward(x if group.input_order is None else x[:, group.input_order.long()], outs)
    return outs


@pytest.mark.parametrize("backend", [TorchBackend(), GroupingBackend()], ids=["one by one", "together"])
def test_gives_each_product_in_whatever_order_it_asks_for(backend: TorchBackend) -> None:
    matrices = linears(backend)
    group = LinearGroup(backend, matrices)
    assert (group.input_order is None) == (type(backend) is TorchBackend)
    assert (group.input_places is None) == (group.input_order is None)
    assert group.nbytes == (0 if group.input_order is None else 7)
    x = torch.randn(2, 3)
    expected = [torch.empty(2, 2), torch.empty(2, 4)]
    for linear, out in zip(matrices, expected, strict=True):
        linear.forward(x, out)
    assert all(map(torch.equal, products(group, x), expected))


def test_a_replaced_kernel_is_asked() -> None:
    backend = GroupingBackend()
    matrices = linears(backend)
    group = LinearGroup(backend, matrices)
    own, matrices[1].kernel = matrices[1].kernel, backend.prepare_dense(torch.ones(4, 3), None)
    assert group.input_order is None
    assert torch.equal(products(group, torch.ones(2, 3))[1], torch.full((2, 4), 3.0))
    matrices[1].kernel = own
    assert group.input_order is ORDER
