"""Making sure that every calibration row passes through the model before hours are spent on them."""

from __future__ import annotations

import torch

from engine.errors import QuantizationError
from quantize.calibration import CalibrationRows
from quantize.progress import Progress
from quantize.source_model import SourceModel
from quantize.streamed_model import pass_layer


def check_rows(source: SourceModel, calibration: CalibrationRows, progress: Progress) -> None:
    """Refuse rows that give NaN or infinity anywhere in the residual stream: one would spoil every Hessian behind it.

    Raises:
        QuantizationError: there is one; the message names the row, the file it is from, and the layer.
    """
    rows = calibration.tokens
    progress.stage("Checking the rows", source.model.config.num_layers)
    streams = source.model.open_streams(source.scratch / "checked-rows.f32", rows)
    for index, layer in enumerate(source.model.layers):
        pass_layer(layer, streams)
        for row in range(len(rows)):
            if not bool(torch.isfinite(streams.read(row)).all()):
                raise QuantizationError(
                    f"Calibration row {row} (from {calibration.sources[row]}) gives values that are not finite in "
                    f"layer {index}. Check the model's weights, or use another text."
                )
        progress.advance()
    streams.remove()
