"""Cards differ in the shared memory a block may have: kernels are made ready within it, and products fit into it."""

from __future__ import annotations

import pytest
import torch

from engine.errors import DeviceError
from engine.ops.cuda_exl2_matrix import Exl2Workspace
from engine.ops.cuda_linear import CudaExl2Linear
from engine.ops.exl2 import decode
from tests.emulation.device import EmulatedRuntime
from tests.engine.ops.exl2_matrices import random_exl2

CARDS = [(7, 5, 64), (8, 0, 163), (8, 6, 99), (8, 9, 99), (9, 0, 227), (10, 0, 227), (12, 0, 99)]
"""Compute capability, and KiB a block may have, of each architecture that is built for: CUDA C++ programming guide."""


@pytest.mark.parametrize(("major", "minor", "shared_kib"), CARDS)
def test_products_of_any_width_and_rows_fit(emulated: EmulatedRuntime, major: int, minor: int, shared_kib: int) -> None:
    with emulated.as_card(major, minor, shared_kib):
        workspace = Exl2Workspace(emulated, torch.float16)
        for layout in ([(2, 64)], [(8, 32), (4, 64)]):
            tensors = random_exl2(layout, 32, seed=shared_kib)
            kernel, weight = CudaExl2Linear(workspace, tensors), decode(tensors)
            for rows in (1, 9, 32):
                x = torch.eye(rows, tensors.in_features, dtype=torch.float16)
                out = torch.empty(rows, 32, dtype=torch.float16)
                kernel(x, out)
                assert torch.equal(out, weight[:rows])


def test_a_card_with_less_than_any_has_is_refused(emulated: EmulatedRuntime) -> None:
    with pytest.raises(DeviceError, match="more than a block can have"), emulated.as_card(8, 0, 48):
        pass
