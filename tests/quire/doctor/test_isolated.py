"""Whatever becomes of the child, the doctor says something."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from quire.doctor import isolated, probe
from quire.doctor.finding import Finding, ok, problem
from quire.doctor.isolated import run_isolated

START = """
import json, sys
sys.path[:] = [{folder!r}, *json.loads(sys.argv[1])]
import stand_in
stand_in.main(sys.argv[2:])
"""
PROBE = """
import os, signal, sys, time
from quire.doctor import probe
from quire.doctor.finding import ok

def main(words):
    probe.PROBES = {{"here": "stand_in"}}
    probe.main(words)

def check(words):
    yield ok("first", "fine " + " ".join(words))
    {then}
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs a probe that finds one thing and then does what it is told."""

    def run(then: str, *words: str, timeout: float = 30) -> list[Finding]:
        (tmp_path / "stand_in.py").write_text(PROBE.format(then=then))
        monkeypatch.setattr(isolated, "_START", START.format(folder=str(tmp_path)))
        return list(run_isolated("here", "the thing", "the advice", words, timeout))

    return run


FIRST = ok("first", "fine ")


def test_findings_come_through(child) -> None:  # type: ignore[no-untyped-def]
    assert child("yield ok('second', 'späť')", "a", "b") == [ok("first", "fine a b"), ok("second", "späť")]


def test_output_of_libraries_is_no_finding(child) -> None:  # type: ignore[no-untyped-def]
    assert child("print('noise'); os.write(1, b'more noise')") == [FIRST]


def test_an_exception_is_told_in_one_line(child) -> None:  # type: ignore[no-untyped-def]
    fact = "the check broke off: ImportError: libcudart.so.13: cannot open"
    assert child("raise ImportError('libcudart.so.13: cannot open')") == [
        FIRST,
        problem("the thing", fact, "the advice"),
    ]


def test_an_illegal_instruction_is_told_by_its_name(child) -> None:  # type: ignore[no-untyped-def]
    findings = child("os.kill(os.getpid(), signal.SIGILL)")
    assert findings == [FIRST, problem("the thing", "the check broke off: it was ended by SIGILL", "the advice")]


def test_half_a_line_is_left_out(child) -> None:  # type: ignore[no-untyped-def]
    findings = child("sys.stdout.flush(); os.write(3, b'{\"level'); os._exit(7)")
    assert findings == [FIRST, problem("the thing", "the check broke off: exit status 7", "the advice")]


def test_a_check_that_hangs_is_given_up(child) -> None:  # type: ignore[no-untyped-def]
    started = time.monotonic()
    findings = child("time.sleep(600)", timeout=3)
    assert time.monotonic() - started < 60
    assert findings == [FIRST, problem("the thing", "the check did not end within 3 seconds", "the advice")]


def test_a_python_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.devnull)
    (finding,) = run_isolated("torch", "torch", "")
    assert finding.level == "problem"
    assert "no process could be started" in finding.fact


def test_every_probe_is_a_module_with_a_check() -> None:
    for name in probe.PROBES.values():
        path = Path(probe.__file__).parent / f"{name.rpartition('.')[2]}.py"
        assert "\ndef check(" in path.read_text(encoding="utf-8")
