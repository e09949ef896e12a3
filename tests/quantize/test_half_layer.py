"""The two halves of a layer do together what the layer does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.model.loader import load_model
from engine.ops.torch_backend import TorchBackend
from quantize.capture import catching
from quantize.half_layer import halves, whole_row
from tests.quantize.models import write_dense_model


@pytest.mark.parametrize("biases", [False, True])
def test_halves_make_the_layer(tmp_path: Path, biases: bool) -> None:
    model = load_model(write_dense_model(tmp_path, biases=biases), TorchBackend()).model
    stream = model.embed(torch.arange(3, 40, dtype=torch.int32))
    expected = stream.clone()
    for layer in model.layers:
        layer.forward(expected, *whole_row(expected))
        for half in halves(layer):
            at_once = half.output(stream)
            half.advance(stream, half.exit_inputs(stream))
            assert torch.allclose(at_once, stream, atol=1e-5)
    assert torch.allclose(stream, expected, atol=1e-5)


def test_entries_and_exits_are_the_layers_matrices(tmp_path: Path) -> None:
    model = load_model(write_dense_model(tmp_path), TorchBackend()).model
    names = [linear.prefix for layer in model.layers for half in halves(layer) for linear in (*half.entry, half.exit)]
    assert [*names, "lm_head"] == [name for name, _ in model.linears()]


def test_a_caught_matrix_gets_its_kernel_back(tmp_path: Path) -> None:
    model = load_model(write_dense_model(tmp_path), TorchBackend()).model
    kernel = model.head.kernel
    with catching(model.head) as catcher:
        assert not bool(model.logits(torch.ones(2, 64)).any())
    assert catcher.inputs.shape == (2, 64)
    assert model.head.kernel is kernel
