"""Rows that would spoil every Hessian are found and named before anything is measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.ops.torch_backend import TorchBackend
from quantize.calibration import CalibrationRows
from quantize.row_check import check_rows
from quantize.source_model import SourceModel, open_source
from quantize.streamed_model import StreamedModel
from tests.quantize.models import NoProgress, write_dense_model

POISON = 7


@pytest.fixture
def source(tmp_path: Path) -> SourceModel:
    model = write_dense_model(tmp_path / "model")
    return open_source(Checkpoint.open(model), load_config(model), TorchBackend(), 16, tmp_path)


def _rows(poisoned: int | None) -> CalibrationRows:
    tokens = torch.full((4, 16), 9, dtype=torch.int32)
    if poisoned is not None:
        tokens[poisoned, 5] = POISON
    return CalibrationRows(tokens, ("a.txt", "a.txt", "b.jsonl", "b.jsonl"), tokens[:0])


def test_a_poisonous_row_is_named(source: SourceModel, monkeypatch: pytest.MonkeyPatch) -> None:
    embed = StreamedModel.embed

    def overflow(model: StreamedModel, row: torch.Tensor) -> torch.Tensor:
        stream = embed(model, row)
        stream[row == POISON] = float("inf")
        return stream

    monkeypatch.setattr(StreamedModel, "embed", overflow)
    check_rows(source, _rows(None), NoProgress())
    with pytest.raises(QuantizationError, match=r"row 2 \(from b\.jsonl\) .* not finite in layer 0"):
        check_rows(source, _rows(2), NoProgress())
