"""Cutting rows into groups."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from engine.errors import QuantizationError
from engine.ops.exl2 import layout_bits
from quantize.exl2.layout import Group, WidthShare, group_layout


def _exl2_files(golden: Path) -> list[Path]:
    files = []
    for path in sorted(golden.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if file.metadata()["kind"] == "exl2" and "bits_prop" in file.metadata():
                files.append(path)
    return files


def test_layout_and_size_equal_the_original_converters(golden: Path) -> None:
    files = _exl2_files(golden)
    assert len(files) > 10
    for path in files:
        with safe_open(path, "pt") as file:
            meta = file.metadata()
            stored_columns = file.get_slice("linear.q_weight").get_shape()[1]
        sizes = json.loads(meta["group_size"])
        shares = [
            WidthShare(bits, share, sizes[str(bits)])
            for bits, share in zip(json.loads(meta["bits"]), json.loads(meta["bits_prop"]), strict=True)
        ]
        rows = int(meta["in_features"])
        groups = group_layout(rows, shares)
        assert [group.bits for group in groups] == json.loads(meta["groups"]), path.name
        assert sum(group.rows for group in groups) == rows
        if "packpad" in path.name:  # its size was counted before padding
            continue
        bits_per_weight = layout_bits(groups, stored_columns) / (rows * stored_columns)
        assert bits_per_weight == pytest.approx(float(meta["bpw"]), abs=1e-6), path.name


def test_first_widths_may_use_up_all_rows() -> None:
    shares = [WidthShare(6, 0.05, 32), WidthShare(3, 0.2, 64), WidthShare(2, 0.75, 64)]
    assert group_layout(64, shares) == (Group(6, 32), Group(3, 32))


@pytest.mark.parametrize(
    ("rows", "shares", "message"),
    [
        (100, [WidthShare(4, 1.0, 32)], "100 input features"),
        (128, [WidthShare(3, 0.5, 32), WidthShare(4, 0.5, 32)], "must fall"),
        (128, [WidthShare(7, 1.0, 32)], "7 bits"),
        (128, [WidthShare(4, 1.0, 48)], "48 rows"),
        (128, [WidthShare(4, 0.5, 32)], "add up"),
    ],
)
def test_impossible_layouts_are_refused(rows: int, shares: list[WidthShare], message: str) -> None:
    with pytest.raises(QuantizationError, match=message):
        group_layout(rows, shares)
