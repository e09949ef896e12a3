"""Measuring blocks as ExLlamaV2 does: every block once, errors that fall with size, the model left as it was."""

from __future__ import annotations

from pathlib import Path

import torch

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.exl2 import layout_bits
from engine.ops.torch_backend import TorchBackend
from quantize.exl2.allocate import plan_of
from quantize.exl2.anneal import Annealing
from quantize.exl2.candidate_sets import ATTENTION_SETS, MLP_SETS
from quantize.half_layer import halves
from quantize.recipe import EXLLAMAV2
from quantize.source_model import SourceModel, open_source
from tests.quantize.models import NoProgress, write_dense_model


def _last_stream(source: SourceModel, row: torch.Tensor) -> torch.Tensor:
    stream = source.model.embed(row)
    for layer in source.model.layers:
        for half in halves(layer):
            half.advance(stream, half.exit_inputs(stream))
    return stream


def test_blocks_are_measured_and_left_alone(tmp_path: Path) -> None:
    model = write_dense_model(tmp_path)
    source = open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 48, tmp_path)
    rows = torch.randint(2, 250, (4, 48), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    before = _last_stream(source, rows[0])
    choices = EXLLAMAV2.measure(source, rows, NoProgress())
    assert torch.equal(_last_stream(source, rows[0]), before)
    assert [name for each in choices for name in each.names] == list(source.shapes)[:-1]
    assert [len(each.options) for each in choices] == [len(ATTENTION_SETS), len(MLP_SETS)] * 2
    for each in choices:
        smallest, largest = each.options[0], each.options[-1]
        assert 0 < largest.error < 0.1 * smallest.error < 0.1
        for option in each.options:
            shapes = [source.shapes[name] for name in each.names]
            assert option.bits == sum(
                layout_bits(groups, shape.out_features) for groups, shape in zip(option.layouts, shapes, strict=True)
            )
    assert [[option.bits for option in each.options] for each in EXLLAMAV2.measure.sizes(source.layout)] == [
        [option.bits for option in each.options] for each in choices
    ]
    plan = plan_of(choices, Annealing(proposals=2)(choices, 5.0, 0))
    assert set(plan) == {name for each in choices for name in each.names}
