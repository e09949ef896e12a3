"""Reading a finished model back from disk, to make sure it is what the quantizer meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.formats.exl2 import load_exl2
from engine.model.tensor_layout import check_tensors, tensor_layout
from engine.ops.exl2 import decode
from quantize.digest import weight_digest
from quantize.progress import Progress


def verify(
    directory: Path, digests: Mapping[str, str], progress: Progress, ignore_config_keys: tuple[str, ...] = ()
) -> None:
    """Check that `directory` holds a whole model whose matrices decode to exactly the weights with these digests.

    Args:
        directory: of the model.
        digests: of every matrix that was quantized, by its name.
        progress: is told of every matrix.
        ignore_config_keys: keys to treat as absent from its config.json.

    Raises:
        QuantizationError: a matrix decodes to something else.
        CheckpointError: a tensor is missing, left over or malformed.
    """
    config = load_config(directory, ignore_config_keys)
    checkpoint = Checkpoint.open(directory)
    layout = tensor_layout(config, checkpoint)
    check_tensors(layout, checkpoint)
    shapes = {shape.prefix: shape for shape in layout.linears}
    for name, digest in digests.items():
        if (
            name not in shapes
            or weight_digest(decode(load_exl2(checkpoint, replace(shapes[name], prescale=1.0)))) != digest
        ):
            raise QuantizationError(
                f"{name} does not read back from {checkpoint.path_of(f'{name}.q_weight')} as it was quantized. "
                "Check the disk and try again."
            )
        progress.advance(1, name)
