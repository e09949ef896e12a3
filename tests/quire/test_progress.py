from __future__ import annotations

import io
import re

import pytest

from quire.progress import INTERVAL, PlainProgress, show_progress


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_are_few_and_tell_the_remaining_time() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = PlainProgress(lines.append, clock)
    progress.stage("quantize", 10)
    for step in range(10):
        clock.now += INTERVAL / 2
        progress.advance(note=f"layer {step}")
    progress.stage("write", 1)
    progress.end()
    assert lines == [
        "quantize: begins",
        "quantize: 20%, ETA 2:00 (layer 1)",
        "quantize: 40%, ETA 1:30 (layer 3)",
        "quantize: 60%, ETA 1:00 (layer 5)",
        "quantize: 80%, ETA 0:30 (layer 7)",
        "quantize: done in 2:30",
        "write: begins",
        "write: done in 0:00",
    ]


def test_hours_are_shown() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = PlainProgress(lines.append, clock)
    progress.stage("quantize", 3)
    clock.now = 3600.0
    progress.advance()
    assert lines[-1] == "quantize: 33%, ETA 2:00:00"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_bars_that_end_full() -> None:
    stream = Terminal()
    with show_progress(stream) as progress:
        progress.stage("measure", 4)
        progress.advance(2, "layer 1")
        progress.stage("quantize", 3)
        progress.advance(3)
    text = stream.getvalue()
    assert "measure" in text
    assert text.count("100%") >= 2
    assert "ETA" in text


def test_without_a_terminal_no_escape_codes() -> None:
    stream = io.StringIO()
    with show_progress(stream) as progress:
        progress.stage("measure", 4)
        progress.advance(4)
    assert stream.getvalue().splitlines()[0] == "measure: begins"
    assert "\x1b" not in stream.getvalue()


def test_work_that_was_done_before_says_nothing_about_the_pace() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = PlainProgress(lines.append, clock)
    progress.stage("quantize", 100, 80)
    clock.now = 100.0
    progress.advance(10)
    assert lines == ["quantize: going on at 80%", "quantize: 90%, ETA 1:40"]


def test_the_remaining_time_is_shown_on_narrow_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    with show_progress(stream) as progress:
        progress.stage("Quantizing to 4.25 bits", 1000)
        progress.advance(500, "model.layers.31.self_attn.down_proj")
    last = stream.getvalue().rsplit("Quantizing", 1)[1]
    assert re.search(r"50%.*ETA 0:00", last)
    assert "down_proj" not in last
