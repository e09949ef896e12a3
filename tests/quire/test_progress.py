from __future__ import annotations

import io

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
        "quantize: 10 steps",
        "quantize: 2/10 (layer 1), ETA 2:00",
        "quantize: 4/10 (layer 3), ETA 1:30",
        "quantize: 6/10 (layer 5), ETA 1:00",
        "quantize: 8/10 (layer 7), ETA 0:30",
        "quantize: done in 2:30",
        "write: 1 step",
        "write: done in 0:00",
    ]


def test_hours_are_shown() -> None:
    lines: list[str] = []
    clock = Clock()
    progress = PlainProgress(lines.append, clock)
    progress.stage("quantize", 3)
    clock.now = 3600.0
    progress.advance()
    assert lines[-1] == "quantize: 1/3, ETA 2:00:00"


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
    assert "4/4" in text
    assert "3/3" in text
    assert "ETA" in text


def test_without_a_terminal_no_escape_codes() -> None:
    stream = io.StringIO()
    with show_progress(stream) as progress:
        progress.stage("measure", 4)
        progress.advance(4)
    assert stream.getvalue().splitlines()[0] == "measure: 4 steps"
    assert "\x1b" not in stream.getvalue()
