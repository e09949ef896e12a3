"""What the choices of a recipe are worth on a whole model."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.divergence import kl_divergence
from quantize.exl2.head import head_groups
from quantize.exl2.layout import Group
from quantize.half_layer import whole_row
from quantize.model_quantizer import ModelQuantizer
from quantize.recipe import DEFAULT, EXLLAMAV2, Recipe
from quantize.source_model import SourceModel, open_source
from tests.quantize.models import NoProgress, write_dense_model


def _log_probabilities(source: SourceModel, rows: torch.Tensor) -> torch.Tensor:
    outputs = []
    for row in rows:
        stream = source.model.embed(row)
        for layer in source.model.layers:
            layer.forward(stream, *whole_row(stream))
        outputs.append(source.model.logits(stream).log_softmax(-1))
    return torch.stack(outputs)


def _divergence(model: Path, rows: torch.Tensor, others: torch.Tensor, recipe: Recipe) -> float:
    """Mean KL on `others` after all matrices were quantized with three bits on `rows`."""
    source = open_source(model, load_config(model), TorchBackend(), rows.shape[1])
    reference = _log_probabilities(source, others)
    plan = {name: (Group(3, shape.in_features),) for name, shape in source.shapes.items()}
    plan[source.model.head.prefix] = head_groups(source.model.head.in_features, 8)
    for _ in ModelQuantizer(source, rows, plan, recipe, NoProgress()).tensors():
        pass
    return float(kl_divergence(reference, _log_probabilities(source, others)).mean())


def test_correcting_for_drift_beats_the_yardstick(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path)
    rows = torch.randint(2, 250, (40, 64), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    plain, corrected = (_divergence(model, rows[:32], rows[32:], recipe) for recipe in (EXLLAMAV2, DEFAULT))
    assert 0 < corrected < 0.9 * plain
