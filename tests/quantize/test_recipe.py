"""What the choices of a recipe are worth on a whole model."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.config_reader import read_json
from engine.ops.torch_backend import TorchBackend
from quantize.divergence import kl_divergence
from quantize.exl2.head import head_groups
from quantize.exl2.layout import Group
from quantize.model_quantizer import ModelQuantizer, Streams
from quantize.recipe import RECIPES, Recipe
from quantize.source_model import open_source
from quantize.streamed_model import StreamedModel
from quantize.writer import write_model
from tests.quantize.models import NoProgress, write_dense_model


def _log_probabilities(model: StreamedModel, rows: torch.Tensor, scratch: Path) -> torch.Tensor:
    streams, output = model.run(scratch / "rows.f32", rows, lambda: None), model.output()
    found = torch.stack([output.log_probabilities(streams.read(row)) for row in range(len(rows))])
    streams.remove()
    return found


def _divergence(model: Path, rows: torch.Tensor, others: torch.Tensor, recipe: Recipe, scratch: Path) -> float:
    """Mean KL on `others` after all matrices were quantized with three bits on `rows`."""
    config, length = load_config(model), rows.shape[1]
    source = open_source(Checkpoint.open(model), config, TorchBackend(), length, scratch)
    plan = {name: (Group(3, shape.in_features),) for name, shape in source.shapes.items()}
    plan[source.head_name] = head_groups(source.layout.head.in_features, 8)
    quantizer = ModelQuantizer(source, plan, recipe, rows.numel(), NoProgress())
    streams = Streams.open(scratch, rows, config.hidden_size, TorchBackend())
    parts = [quantizer.begin(rows, streams)]
    parts += [quantizer.layer(index, streams) for index in range(config.num_layers)]
    parts.append(quantizer.head(streams))
    write_model(
        scratch,
        (item for part in parts for item in part.tensors.items()),
        config=read_json(model / "config.json"),
        side_files_from=None,
        shard_bytes=1 << 30,
    )
    quantized = open_source(Checkpoint.open(scratch), config, TorchBackend(), length, scratch)
    reference = _log_probabilities(source.model, others, scratch)
    return float(kl_divergence(reference, _log_probabilities(quantized.model, others, scratch)).mean())


def test_correcting_for_drift_beats_the_yardstick(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path / "model")
    rows = torch.randint(2, 250, (40, 64), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    found = []
    for name in ("exllamav2", "default"):
        (tmp_path / name).mkdir()
        found.append(_divergence(model, rows[:32], rows[32:], RECIPES[name], tmp_path / name))
    plain, corrected = found
    assert 0 < corrected < 0.9 * plain
