"""Everything the quantizer computes is on the job's device: nothing it makes stays on the host by mistake."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.exl2.allocate import plan_of
from quantize.exl2.head import head_groups
from quantize.model_quantizer import ModelQuantizer, Streams
from quantize.recipe import DEFAULT, EXLLAMAV2, Recipe
from quantize.source_model import open_source
from quantize.tuning import tune
from quantize.yardstick import BlockMeasurement
from tests.quantize.models import NoProgress, write_dense_model
from tests.quantize.two_devices import TwoDevices, on_host


class FirstFactor(type(EXLLAMAV2.search)):  # type: ignore[misc]
    """The yardstick's scale search with few factors: the same operations in less time."""

    factors = (0.9, 1.0)


YARDSTICK = replace(EXLLAMAV2, measure=BlockMeasurement(FirstFactor()), search=FirstFactor())


def test_the_host_and_the_device_are_told_apart() -> None:
    device = torch.ones(3)
    with TwoDevices():
        made = torch.arange(3)
        assert (device + made.to(torch.device("cpu"))).tolist() == [1.0, 2.0, 3.0]
        assert device[made].sum() == 3
        with pytest.raises(AssertionError, match="of the host and of the device"):
            torch.add(device, made)
        with pytest.raises(AssertionError, match="of the host and of the device"):
            _ = device * made.view(1, 3).float()[0]


@pytest.mark.parametrize("recipe", [DEFAULT, YARDSTICK], ids=["default", "exllamav2"])
def test_a_job_computes_on_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    read = Checkpoint.tensor
    monkeypatch.setattr(Checkpoint, "tensor", lambda checkpoint, name: on_host(read(checkpoint, name)))
    model = write_dense_model(tmp_path / "model", biases=True, layers=1, hidden=32, inner=32)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    rows = torch.randint(2, 250, (3, 24), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    on_host(rows)
    backend, progress = TorchBackend("cpu", torch.float32, 1), NoProgress()
    with TwoDevices():
        source = open_source(Checkpoint.open(model), load_config(model), backend, 24, scratch)
        choices = recipe.measure(source, rows, progress)
        if recipe.measure_head is not None:
            recipe.measure_head(source, rows, progress)
        plan = plan_of(choices, [each.options[len(each.options) // 2] for each in choices])
        plan[source.head_name] = head_groups(32, 4)
        quantizer, streams = (
            ModelQuantizer(source, plan, recipe, rows.numel(), progress),
            Streams.open(tmp_path, rows, 32, backend),
        )
        parts = [quantizer.begin(rows, streams), quantizer.layer(0, streams), quantizer.head(streams)]
        tensors = {name: on_host(tensor) for part in parts for name, tensor in part.tensors.items()}
        tune(source, tensors, rows, 2, 0, progress)
