"""Tuning: gradients reach all that is stored besides codes, nothing else moves, and nothing gets worse."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import ConfigError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.full_attention import FullAttention
from engine.model.loader import ModelParts
from engine.ops.torch_backend import TorchBackend
from quantize.differentiable import DifferentiableBackend, FreshWorkspace, WeightKernel
from quantize.exl2.head import head_groups
from quantize.exl2.layout import Group
from quantize.model_quantizer import ModelQuantizer, Streams
from quantize.options import QuantizeOptions
from quantize.recipe import DEFAULT
from quantize.source_model import SourceModel, open_source
from quantize.tuning import tune
from tests.quantize.models import NoProgress, SilentProgress, write_dense_model

LENGTH = 48


def _open(folder: Path, *, biases: bool) -> SourceModel:
    model = write_dense_model(folder / "model", biases=biases)
    return open_source(Checkpoint.open(model), load_config(model), TorchBackend(), LENGTH, folder)


def _rows(count: int) -> torch.Tensor:
    return torch.randint(2, 250, (count, LENGTH), generator=torch.Generator().manual_seed(0), dtype=torch.int32)


def _quantized(source: SourceModel, rows: torch.Tensor) -> dict[str, torch.Tensor]:
    """With three bits."""
    plan = {name: (Group(3, shape.in_features),) for name, shape in source.shapes.items()}
    plan[source.head_name] = head_groups(source.layout.head.in_features, 6)
    config = source.model.config
    quantizer = ModelQuantizer(source, plan, replace(DEFAULT, refinement=None), rows.numel(), NoProgress())
    streams = Streams.open(source.scratch, rows, config.hidden_size, TorchBackend())
    parts = [quantizer.begin(rows, streams)]
    parts += [quantizer.layer(index, streams) for index in range(config.num_layers)]
    parts.append(quantizer.head(streams))
    return {name: tensor for part in parts for name, tensor in part.tensors.items()}


@pytest.mark.parametrize("biases", [False, True])
def test_gradients_of_a_layer_are_those_of_small_differences(tmp_path: Path, biases: bool) -> None:
    source = _open(tmp_path, biases=biases)
    parts = ModelParts(source.checkpoint, source.layout, source.model.config, DifferentiableBackend(), LENGTH, LENGTH)
    parts.workspace = FreshWorkspace(torch.device("cpu"))
    layer, known = parts.layer(0), source.model.parts.layer(0)
    kernels = []
    for linear in layer.linears:
        kernels.append(WeightKernel(linear.kernel, source.bias(linear.prefix)))
        kernels[-1].weight = source.weight(linear.prefix).requires_grad_()
        linear.kernel = kernels[-1]
    generator = torch.Generator().manual_seed(1)
    start = torch.randn(2 * LENGTH, source.model.config.hidden_size, generator=generator)
    direction = torch.randn(start.shape, generator=generator)
    positions = torch.arange(LENGTH, dtype=torch.int32).repeat(2)

    def output() -> torch.Tensor:
        stream = start.clone()
        layer.forward(stream, positions, FullAttention([LENGTH, LENGTH]))
        return stream

    expected = start.clone()
    known.forward(expected, positions, FullAttention([LENGTH, LENGTH]))
    assert torch.allclose(output(), expected, atol=1e-4)
    (output() * direction).sum().backward()  # type: ignore[no-untyped-call]
    for kernel in kernels:
        gradient, move = kernel.weight.grad, torch.randn(kernel.weight.shape, generator=generator) * 1e-3
        assert gradient is not None
        with torch.no_grad():
            kernel.weight += move
            ahead = output()
            kernel.weight -= 2 * move
            behind = output()
            kernel.weight += move
        difference = float(((ahead - behind).double() * direction.double()).sum()) / 2
        assert difference == pytest.approx(float((gradient * move).sum()), rel=0.05, abs=2e-3)


def test_tuning_helps_on_rows_it_has_not_seen_and_leaves_the_codes(tmp_path: Path) -> None:
    source, rows, progress = _open(tmp_path, biases=True), _rows(20), SilentProgress()
    before = _quantized(source, rows)
    kept = {name: tensor.clone() for name, tensor in before.items()}
    tuned = tune(source, before, rows, 20, 0, progress)
    assert progress.done == [20]
    assert 0 < tuned.after < 0.99 * tuned.before
    assert list(tuned.tensors) == list(kept)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in before.items())
    changed = {name for name, tensor in tuned.tensors.items() if not torch.equal(tensor, kept[name])}
    suffixes = {name.rpartition(".")[2] for name in changed}
    assert suffixes == {"weight", "q_scale_max"}
    assert {name for name in kept if name.endswith("norm.weight")} <= changed
    assert "model.embed_tokens.weight" in changed
    for name, tensor in tuned.tensors.items():
        assert (tensor.dtype, tensor.shape) == (kept[name].dtype, kept[name].shape)
    assert set(tuned.digests) == set(source.shapes)
    assert not (tmp_path / "teacher.f32").exists()


def test_numbers_that_are_none_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, rows = _open(tmp_path, biases=False), _rows(4)
    before = _quantized(source, rows)
    monkeypatch.setattr("quantize.tuning.RATE", math.inf)
    tuned = tune(source, before, rows, 2, 0, NoProgress())
    assert math.isnan(tuned.after)
    assert all(tuned.tensors[name] is tensor for name, tensor in before.items())


def test_tuning_needs_a_row_to_judge_by() -> None:
    with pytest.raises(ConfigError, match="tune needs rows to be at least 2"):
        QuantizeOptions(rows=1, tune=5)


def test_what_does_not_help_is_not_kept(tmp_path: Path) -> None:
    source, rows = _open(tmp_path, biases=False), _rows(4)
    before = _quantized(source, _rows(8))
    source_rows = rows.clone()
    source_rows[:3] = 7  # three rows of one token say nothing about the fourth
    tuned = tune(source, before, source_rows, 20, 0, NoProgress())
    assert tuned.after >= tuned.before
    assert tuned.digests == {}
    assert all(tuned.tensors[name] is tensor for name, tensor in before.items())
