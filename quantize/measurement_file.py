"""What each choice of widths would cost, on disk: made once, good for every size."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from engine.errors import QuantizationError
from engine.model.formats.base import LinearShape
from engine.model_files import read_json_object
from engine.ops.exl2 import WIDTHS
from quantize.atomic_file import write_atomically
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group
from quantize.foreign_measurement import choices_from_exllamav2

VERSION = 3


@dataclass(frozen=True, slots=True)
class Measured:
    """A measurement, and the model it was made on.

    Attributes:
        choices: what each choice of widths would cost.
        model: `model_identity` of that model; None where the file it is from does not say.
    """

    choices: list[Choices]
    model: str | None


def write_measurement(path: Path, measured: Measured) -> None:
    """Save a measurement.

    Raises:
        OSError: the disk does not take it.
    """
    choices = [_choices_to_json(each) for each in measured.choices]
    content = {"version": VERSION, "model": measured.model, "choices": choices}
    write_atomically(path, json.dumps(content) + "\n")


def read_measurement(path: Path, shapes: Mapping[str, LinearShape], model: str) -> Measured:
    """What `write_measurement` saved, or ExLlamaV2's converter.

    Args:
        path: of the file.
        shapes: of the model's matrices by name, in model order, the head last.
        model: its `model_identity`.

    Raises:
        QuantizationError: the file is missing, corrupt, or of another model; the message names it.
    """
    content = read_json_object(path, QuantizationError)
    if content is None:
        raise QuantizationError(f"The measurement {path} does not exist.")
    if "measurement" in content:
        return Measured(choices_from_exllamav2(path, content, shapes), None)
    if content.get("version") != VERSION:
        raise QuantizationError(f"{path} is no measurement of this version of Quire. Measure anew.")
    try:
        choices = [_choices_from_json(each) for each in content["choices"]]
        of_model = None if content["model"] is None else str(content["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise QuantizationError(f"{path} is no measurement: {error!r}. Measure anew.") from None
    _check_shapes(path, choices, shapes)
    if of_model not in (None, model):
        raise QuantizationError(
            f"{path} was measured on another model: the matrices have the same shapes, but other weights. Measure anew."
        )
    return Measured(choices, of_model)


def _check_shapes(path: Path, choices: Sequence[Choices], shapes: Mapping[str, LinearShape]) -> None:
    *decoder, head = shapes
    if [name for each in choices for name in each.names if name != head] != decoder:
        raise QuantizationError(f"{path} was measured on another model: it has other matrices. Measure anew.")
    for each in choices:
        for option in each.options:
            rows = [sum(group.rows for group in layout) for layout in option.layouts]
            if rows != [shapes[name].in_features for name in each.names]:
                raise QuantizationError(
                    f"{path} was measured on another model: {each.names[0]} has another shape. Measure anew."
                )


def _choices_to_json(choices: Choices) -> dict[str, object]:
    """Runs of equal groups are written once, with their number: [bits, rows, count]."""
    return {
        "names": choices.names,
        "weights": choices.weights,
        "options": [
            {"bits": each.bits, "error": each.error, "layouts": [_runs(layout) for layout in each.layouts]}
            for each in choices.options
        ],
    }


def _choices_from_json(value: Any) -> Choices:
    options = [
        Option(tuple(_groups(layout) for layout in each["layouts"]), int(each["bits"]), float(each["error"]))
        for each in value["options"]
    ]
    if not options or not all(math.isfinite(option.error) for option in options):
        raise ValueError(f"no finite errors of {value['names']}")
    return Choices(tuple(map(str, value["names"])), int(value["weights"]), options)


def _runs(layout: Sequence[Group]) -> list[list[int]]:
    runs: list[list[int]] = []
    for bits, rows in layout:
        if runs and runs[-1][:2] == [bits, rows]:
            runs[-1][2] += 1
        else:
            runs.append([bits, rows, 1])
    return runs


def _groups(runs: Any) -> tuple[Group, ...]:
    if not {bits for bits, _, _ in runs} <= set(WIDTHS):
        raise ValueError(f"no widths of EXL2: {runs}")
    # one object for a whole run: a model has millions of groups in all its options together
    return tuple(chain.from_iterable((Group(int(bits), int(rows)),) * int(count) for bits, rows, count in runs))
