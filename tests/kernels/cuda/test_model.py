"""A whole EXL2 model over the emulated device, its matrices grouped by their inputs, against the reference backend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.footprint import weight_footprint
from engine.model.forward_batch import ForwardBatch
from engine.model.full_attention import FullAttention
from engine.model.loader import LoadedModel, load_model
from engine.ops.backend import LinearKernel
from engine.ops.cuda_backend import CudaBackend
from engine.ops.torch_backend import TorchBackend
from tests.emulation.device import EmulatedRuntime
from tests.engine.model.exl2_directory import write_random_exl2_llama

TOKENS = 5


@pytest.fixture(scope="module", params=[True, False], ids=["one order for an input", "an order for each matrix"])
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exl2")
    write_random_exl2_llama(path, layers=1, vocab=70, shared_orders=request.param)
    return path


@pytest.fixture(scope="module")
def half(emulated: EmulatedRuntime, directory: Path) -> LoadedModel:
    return load_model(directory, CudaBackend(emulated, torch.float16), max_tokens=16)


def logits(loaded: LoadedModel) -> torch.Tensor:
    ids = torch.arange(TOKENS, dtype=torch.int32)
    return loaded.model.forward(ForwardBatch(ids, ids, ids), FullAttention([TOKENS])).clone()


def assert_as_the_reference(loaded: LoadedModel, directory: Path, error: float) -> None:
    expected = logits(load_model(directory, TorchBackend()))
    assert (logits(loaded) - expected).abs().max() <= error * expected.abs().max()


def test_gives_the_logits_of_the_reference(half: LoadedModel, directory: Path) -> None:
    assert_as_the_reference(half, directory, 5e-3)


def test_bfloat16(emulated: EmulatedRuntime, directory: Path) -> None:
    loaded = load_model(directory, CudaBackend(emulated, torch.bfloat16), max_tokens=16)
    assert loaded.model.layers[0].attention.input_order is None
    assert_as_the_reference(loaded, directory, 4e-2)


def test_norms_write_in_stored_order_where_there_is_one(half: LoadedModel, directory: Path) -> None:
    stored = Checkpoint.open(directory)
    layer = half.model.layers[0]
    orders = [stored.tensor(f"model.layers.0.self_attn.{name}_proj.q_invperm") for name in "qkv"]
    if torch.equal(orders[0], orders[1]):
        assert layer.attention.input_order is not None
        assert torch.equal(layer.attention.input_order.long(), torch.argsort(orders[0].long()))
    else:
        assert layer.attention.input_order is None


def test_attention_writes_in_stored_order(half: LoadedModel, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attend = FullAttention.attend
    seen = []

    def noted(self: FullAttention, *arguments: object) -> None:
        seen.append(arguments[-1])
        attend(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(FullAttention, "attend", noted)
    logits(half)
    (places,) = seen
    assert isinstance(places, torch.Tensor)
    stored = Checkpoint.open(directory).tensor("model.layers.0.self_attn.o_proj.q_invperm")
    assert torch.equal(places.long(), stored.long())


class Passing:
    """Another kernel that does the same."""

    def __init__(self, inner: LinearKernel) -> None:
        self._inner = inner
        self.in_features, self.out_features, self.nbytes = inner.in_features, inner.out_features, inner.nbytes

    def __call__(self, x: torch.Tensor, out: torch.Tensor) -> None:
        self._inner(x, out)


@pytest.mark.parametrize("module", ["q_proj", "o_proj", "up_proj", "down_proj", "head"])
def test_a_kernel_may_be_replaced(half: LoadedModel, directory: Path, module: str) -> None:
    layer = half.model.layers[0]
    linear = (
        half.model.head if module == "head" else getattr(layer.mlp, module, None) or getattr(layer.attention, module)
    )
    own = linear.kernel
    linear.kernel = Passing(own)
    try:
        assert_as_the_reference(half, directory, 5e-3)
    finally:
        linear.kernel = own


def test_what_the_weights_take_is_told_in_advance(half: LoadedModel, directory: Path) -> None:
    told = weight_footprint(load_config(directory), Checkpoint.open(directory), half.model.backend).total
    groups = sum(group.nbytes for group in half.model.layers[0].groups)
    assert (half.model.layers[0].attention.input_order is None) == (groups == 0)
    assert half.summary.weight_bytes == told if groups else half.summary.weight_bytes < told
