from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import SEARCHED_AT_ONCE, LinearShape, require_finite
from engine.model.formats.dense import DenseFormat
from tests.engine.model.formats.recording_backend import RecordingBackend


def saved(folder: Path, **tensors: torch.Tensor) -> Checkpoint:
    save_file({f"p.{name}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")
    return Checkpoint.open(folder)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_matrix_and_its_bias_are_handed_over_unchanged(tmp_path: Path, dtype: torch.dtype) -> None:
    weight, bias = torch.randn(6, 4).to(dtype), torch.randn(6).to(dtype)
    checkpoint = saved(tmp_path, weight=weight, bias=bias)
    backend = RecordingBackend()
    built = DenseFormat().build(checkpoint, LinearShape("p", 4, 6, bias=True), backend)
    (kernel,) = backend.kernels
    assert kernel is built.kernel
    assert torch.equal(kernel.weight, weight)
    assert torch.equal(kernel.bias, bias)
    assert built.format == str(dtype).removeprefix("torch.")
    assert built.stored_bits == 24 * dtype.itemsize * 8
    assert built.weights == 24
    assert DenseFormat().tensor_names(checkpoint, "p") == ("p.weight", "p.bias")


def test_prescale_is_put_on_the_matrix_only(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, weight=torch.full((2, 2), 3.0), bias=torch.full((2,), 3.0))
    backend = RecordingBackend()
    DenseFormat().build(checkpoint, LinearShape("p", 2, 2, bias=True, prescale=0.5), backend)
    assert backend.kernels[0].weight.tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert backend.kernels[0].bias.tolist() == [3.0, 3.0]


def test_only_floating_point_weights_are_dense(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, weight=torch.ones(2, 2, dtype=torch.int8))
    assert not DenseFormat().detect(checkpoint, "p")
    assert not DenseFormat().detect(checkpoint, "q")


@pytest.mark.parametrize(
    ("tensors", "shape", "facts"),
    [
        ({"weight": torch.ones(6, 4)}, LinearShape("p", 4, 5, bias=False), ("p.weight", "[6, 4]", "[5, 4]")),
        ({"weight": torch.ones(4, 6)}, LinearShape("p", 4, 6, bias=False), ("p.weight", "[4, 6]", "[6, 4]")),
        ({"weight": torch.ones(24)}, LinearShape("p", 4, 6, bias=False), ("p.weight", "[24]", "2 ")),
        ({"weight": torch.ones(6, 4)}, LinearShape("p", 4, 6, bias=True), ("p.bias", "missing")),
        (
            {"weight": torch.ones(6, 4), "bias": torch.ones(6)},
            LinearShape("p", 4, 6, bias=False),
            ("p.bias", "has no bias"),
        ),
        (
            {"weight": torch.ones(6, 4), "bias": torch.ones(4)},
            LinearShape("p", 4, 6, bias=True),
            ("p.bias", "4 entries", "must have 6"),
        ),
        (
            {"weight": torch.ones(6, 4), "bias": torch.tensor([0, 0, 0, float("inf"), 0, 0])},
            LinearShape("p", 4, 6, bias=True),
            ("p.bias", "entry 3 is inf"),
        ),
        (
            {"weight": torch.tensor([[1.0, 2.0], [float("nan"), 4.0]], dtype=torch.float16)},
            LinearShape("p", 2, 2, bias=False),
            ("p.weight", "entry 2 is nan"),
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, tensors: dict[str, torch.Tensor], shape: LinearShape, facts: tuple[str, ...]
) -> None:
    with pytest.raises(CheckpointError) as caught:
        DenseFormat().build(saved(tmp_path, **tensors), shape, RecordingBackend())
    assert all(fact in str(caught.value) for fact in facts)


class LargestResult(TorchDispatchMode):
    """Notes the size in bytes of the largest tensor any op makes."""

    def __init__(self) -> None:
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        made = result if isinstance(result, tuple | list) else (result,)
        self.nbytes = max([self.nbytes, *(each.nbytes for each in made if isinstance(each, torch.Tensor))])
        return result


def test_looking_for_bad_numbers_takes_no_memory_to_speak_of(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, weight=torch.ones(1))
    tensor = torch.ones(2, SEARCHED_AT_ONCE, dtype=torch.float16)
    with LargestResult() as largest:
        require_finite(checkpoint, "p.weight", tensor)
    assert largest.nbytes <= 8

    tensor[1, 5] = float("-inf")
    with pytest.raises(CheckpointError, match=f"entry {SEARCHED_AT_ONCE + 5} is -inf"):
        require_finite(checkpoint, "p.weight", tensor)
