"""Feed-forward widths that EXL2 cannot store are padded without changing what the model computes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.loader import ModelParts
from engine.ops.torch_backend import TorchBackend
from quantize.evaluate import evaluate
from quantize.job import QuantizeOptions, quantize_model
from quantize.padding import open_padded, padded_config
from quantize.streamed_model import StreamedModel
from tests.quantize.models import NoProgress, write_dense_model, write_text


def _outputs(model: StreamedModel, scratch: Path) -> torch.Tensor:
    rows = torch.arange(3, 43, dtype=torch.int32).view(2, 20)
    streams = model.run(scratch / "streams.f32", rows, lambda: None)
    outputs = torch.stack([model.output().log_probabilities(streams.read(row)) for row in range(2)])
    streams.remove()
    return outputs


@pytest.mark.parametrize("inner", [80, 96])
def test_the_padded_model_computes_the_same(tmp_path: Path, inner: int) -> None:
    model = write_dense_model(tmp_path / "model", inner=inner)
    config = load_config(model)
    padded = padded_config(config)
    assert padded.intermediate_size == 96
    parts = ModelParts.open(open_padded(model, config), padded, TorchBackend(), 20, 20)
    original = ModelParts.open(Checkpoint.open(model), config, TorchBackend(), 20, 20)
    assert parts.layer(0).mlp.down_proj.in_features == 96
    assert torch.allclose(
        _outputs(StreamedModel(parts), tmp_path), _outputs(StreamedModel(original), tmp_path), atol=1e-5
    )


def test_padding_by_hand_gives_the_same_tensors(shared: Path) -> None:
    model = shared / "models" / "stories260k"
    padded = open_padded(model, load_config(model))
    by_hand = Checkpoint.open(shared / "models" / "stories260k-pad192")
    assert set(padded.names) == set(by_hand.names)
    for name in by_hand.names:
        assert padded.shape(name) == by_hand.shape(name)
        assert torch.equal(padded.tensor(name), by_hand.tensor(name))


def test_a_tensor_of_another_shape_is_not_hidden(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model", inner=80)
    tensors = load_file(model / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    tensors[name] = tensors[name][:70].contiguous()
    save_file(tensors, model / "model.safetensors")
    config = load_config(model)
    parts = ModelParts.open(open_padded(model, config), padded_config(config), TorchBackend(), 20, 20)
    with pytest.raises(CheckpointError, match=r"up_proj.*\[70, 64\], config.json asks for \[96, 64\]"):
        parts.layer(0)


def test_a_padded_model_is_quantized_and_loads(tmp_path: Path) -> None:
    model, text = write_dense_model(tmp_path / "model", inner=72), write_text(tmp_path / "text.txt")
    out = tmp_path / "out"
    options = QuantizeOptions(
        model, out, (6.0,), head_bits=8, rows=8, length=64, calibration=(str(text),), check_rows=0, threads=1
    )
    (report,) = quantize_model(options, progress=NoProgress())
    assert json.loads((out / "config.json").read_text())["intermediate_size"] == 96
    assert report.check is None
    found = evaluate(out, text, model, backend=TorchBackend(), progress=NoProgress(), length=64, rows=4)
    assert found.kl_mean is not None
    assert found.kl_mean < 0.05
