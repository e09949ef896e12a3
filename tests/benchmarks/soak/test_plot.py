from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soak.curves import MAX_POINTS, curves
from benchmarks.soak.plot import Line, Panel, Plot, nice_ticks, svg
from benchmarks.soak.record import Fault, Record
from benchmarks.soak.report import write
from benchmarks.soak.run import Plan
from benchmarks.soak.verdict import demands
from tests.benchmarks.soak.test_verdict import good_run, sample

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(drawing).iter(f"{SVG}text")]


def test_what_is_drawn_is_labelled_and_missing_values_interrupt_the_line() -> None:
    panel = Panel("Memory, MiB", [Line("server", [1.0, 2.0, None, 3.0]), Line("engine", [None, 50.0, 150.0, 0.0])])
    drawing = svg(Plot("A & B", "below", [0.0, 60.0, 120.0, 180.0], [panel], [(90.0, "SIGKILL")]))
    for label in ("A & B", "below", "Memory, MiB", "server", "engine", "150", "3", "minutes of the run"):
        assert label in texts(drawing)
    assert "SIGKILL of the engine" in texts(drawing)
    paths = [each.get("d", "") for each in ElementTree.fromstring(drawing).iter(f"{SVG}path")]
    assert [path.count("M") for path in paths if "L" in path] == [2, 1]


def test_an_empty_run_can_be_drawn() -> None:
    assert "minutes of the run" in texts(svg(Plot("", "", [], [Panel("Nothing", [Line("x", [])])], [])))


@given(st.floats(min_value=1e-6, max_value=1e12))
def test_ticks_are_few_and_reach_the_top(top: float) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert 2 <= len(ticks) <= 6
    assert ticks[-1] >= top * (1 - 1e-6)


def test_a_long_run_becomes_few_points() -> None:
    record = Record(samples=[sample(float(at), engine_pid=at % 2) for at in range(2000)])
    record.gaps = [(0.5, 0.01), (2.6, 0.03), (2.7, 0.05)]
    shown = curves(record)
    assert len(shown.seconds) == len(shown.tokens_per_second) <= MAX_POINTS
    assert (shown.gap_p50_ms[0], shown.gap_p99_ms[0], shown.gap_p50_ms[1]) == (30, 50, None)
    assert shown.tokens_per_second[1] == pytest.approx(100)
    assert shown.server_mib[0] == 60


def test_the_report_is_json_and_svg(tmp_path: Path) -> None:
    record = good_run()
    record.faults = [Fault("SIGKILL", 300, 301, 303)]
    figures, drawing = write(tmp_path, record, Plan(600), demands(record))
    document = json.loads(figures.read_text())
    assert document["plan"]["seconds"] == 600
    assert not document["passed"]  # a fault, and no restart
    assert len(document["curves"]["seconds"]) == len(document["curves"]["server_mib"])
    assert "Open descriptors" in texts(drawing.read_text())
