"""Measuring a finished model, read back from its files, against the one it was made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.loader import ModelParts
from quantize.calibration import CalibrationRows
from quantize.evaluate import compare
from quantize.options import QuantizeOptions
from quantize.progress import Progress
from quantize.source_model import SourceModel
from quantize.streamed_model import StreamedModel
from quantize.tally import Figures


@dataclass(frozen=True, slots=True)
class SelfCheck:
    """What was found, and on what.

    Attributes:
        figures: of the model, and of the source.
        rows, length: rows of text that were run, and tokens in each.
        held_out: whether they were kept back from calibration; where the text was too short for that, they are
            calibration rows, and the figures flatter.
    """

    figures: Figures
    rows: int
    length: int
    held_out: bool


def check_model(
    folder: Path, source: SourceModel, calibration: CalibrationRows, options: QuantizeOptions, progress: Progress
) -> SelfCheck | None:
    """Run the model in `folder` and its source over a few rows, as `quire eval` does; None if none are wanted."""
    held_out = len(calibration.check) > 0
    rows = calibration.check if held_out else calibration.tokens[: options.check_rows]
    if not len(rows):
        return None
    config, length = load_config(folder, options.ignore_config_keys), rows.shape[1]
    parts = ModelParts.open(Checkpoint.open(folder), config, source.model.backend, length, length)
    tally = compare(StreamedModel(parts), source.model, rows, source.scratch, progress)
    return SelfCheck(tally.figures, len(rows), length, held_out)
