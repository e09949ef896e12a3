"""A measurement is read as it was written, and damaged ones are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.errors import QuantizationError
from engine.model.formats.base import LinearShape
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group
from quantize.measurement_file import Measured, read_measurement, write_measurement

SHAPES = {name: LinearShape(name, 64, 32, bias=False) for name in ("layers.0.q_proj", "lm_head")}
OPTIONS = [
    Option(((Group(3, 32), Group(2, 32)),), 6000, 0.5),
    Option(((Group(6, 32), Group(6, 32)),), 9000, 0.125),
]
CHOICES = [Choices(("layers.0.q_proj",), 64 * 32, OPTIONS)]
MODEL = "0f" * 32


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_measurement(tmp_path / "measurement.json", Measured(CHOICES, MODEL))
    return tmp_path / "measurement.json"


def test_what_was_written_is_read(path: Path) -> None:
    assert read_measurement(path, SHAPES, MODEL) == Measured(CHOICES, MODEL)


def test_a_measurement_of_other_weights_is_refused(path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"measurement\.json was measured on another model: .* other weights"):
        read_measurement(path, SHAPES, "1e" * 32)


def test_where_a_measurement_is_from_may_be_unknown(path: Path) -> None:
    write_measurement(path, Measured(CHOICES, None))
    assert read_measurement(path, SHAPES, MODEL).model is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"options": []}, "no finite errors"),
        ({"options": [{"bits": 1, "error": float("nan"), "layouts": [[[3, 32, 2]]]}]}, "no finite errors"),
        ({"options": [{"bits": 1, "error": 0.1, "layouts": [[[7, 32, 2]]]}]}, "no widths of EXL2"),
        ({"options": [{"bits": 1, "error": 0.1, "layouts": [[[3, 32]]]}]}, "is no measurement"),
        ({"options": [{"bits": 1, "error": 0.1, "layouts": [[[3, 32, 3]]]}]}, "has another shape"),
        ({"names": ["layers.1.q_proj"]}, "has other matrices"),
    ],
)
def test_damaged_files_are_refused(path: Path, damage: dict[str, object], message: str) -> None:
    content = json.loads(path.read_text())
    content["choices"][0] |= damage
    path.write_text(json.dumps(content))
    with pytest.raises(QuantizationError, match=rf"measurement\.json .*{message}.*Measure anew"):
        read_measurement(path, SHAPES, MODEL)
