"""The run on a GPU, as far as it goes without one: its stages as processes, what becomes of them, its table."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu.program import hand_over
from benchmarks.gpu.results import table
from benchmarks.gpu.stages import Outcome, Stage, run_stage, run_stages
from benchmarks.report import Row
from tests.emulation.device import EmulatedRuntime


def test_what_is_handed_over_is_there_even_if_the_rest_is_not(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield Row("first", 1.0, "s", target=2.0)
        raise RuntimeError("the card is gone")

    with pytest.raises(RuntimeError, match="gone"):
        hand_over(broken(), tmp_path / "rows.json")
    assert [row["name"] for row in json.loads((tmp_path / "rows.json").read_text())] == ["first"]


def test_when_the_time_is_over_stages_are_left_out(tmp_path: Path) -> None:
    stage = Stage("one", (sys.executable, "-c", "print('well')"), 60)
    assert [each.passed for each in run_stages([stage, stage], 1, tmp_path)] == [True, True]
    (late,) = run_stages([stage], 0, tmp_path)
    assert (late.passed, late.verdict, late.said) == (False, "left out", "there was no time left for it")


def test_a_stage_whose_tool_is_missing_is_left_out(tmp_path: Path) -> None:
    outcome = run_stage(Stage("memcheck", ("/no/such/tool", "all"), 60, needs="/no/such/tool"), tmp_path)
    assert (outcome.passed, outcome.verdict) == (False, "left out")
    assert outcome.said == "/no/such/tool is not installed here"


def test_a_stage_has_its_variables_besides_ours(tmp_path: Path) -> None:
    look = "import os; print(os.environ['QUIRE_ONE'], len(os.environ) > 1)"
    outcome = run_stage(Stage("one", (sys.executable, "-c", look), 60, environment={"QUIRE_ONE": "1"}), tmp_path)
    assert outcome.said == "1 True\n"


def test_rows_are_never_there_by_halves(tmp_path: Path) -> None:
    """A stage may be ended while it writes them, and what is there is read then."""
    file = tmp_path / "rows.json"
    with ExitStack() as stack:

        def rows() -> Iterator[Row]:
            yield Row("first", 1.0, "s")
            opened.append(stack.enter_context(file.open()))
            yield Row("second", 1.0, "s")

        opened: list[TextIO] = []
        hand_over(rows(), file)
        assert [row["name"] for row in json.load(opened[0])] == ["first"]
    assert [row["name"] for row in json.loads(file.read_text())] == ["first", "second"]


def test_a_stage_that_fails_hangs_or_is_missing_is_an_outcome(tmp_path: Path) -> None:
    def run(*command: str, seconds: float = 60.0) -> Outcome:
        return run_stage(Stage("one", command, seconds), tmp_path)

    assert run(sys.executable, "-c", "print('well')").passed
    failed = run(sys.executable, "-c", "raise SystemExit('not well')")
    assert (failed.passed, "not well" in failed.said) == (False, True)
    late = run(sys.executable, "-c", "import time; time.sleep(600)", seconds=0.5)
    assert (late.passed, "not done after" in late.said) == (False, True)
    assert not run("/no/such/program").passed
    left = run("sh", "-c", "sleep 600 & echo begun; wait", seconds=0.5)  # which holds its output open, and is ended
    said = left.said.removeprefix("begun\n")  # which a machine that is busy does not get to in that time
    assert (left.passed, said) == (False, "\nnot done after 0 s")


def test_results_are_there_after_every_stage_and_stay_until_it_is_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look = f"import glob; print(open(glob.glob('{tmp_path}/gpu-*.json')[0]).read())"
    wanted = [Stage("first", (sys.executable, "-c", "raise SystemExit('not well')"), 60)]
    wanted.append(Stage("second", (sys.executable, "-c", look), 60))
    monkeypatch.setattr(gpu, "card_name", lambda: ("NVIDIA H200", "580.1"))
    monkeypatch.setattr(gpu, "stages", lambda _: wanted)

    def stages_kept() -> dict[str, bool]:
        (file,) = tmp_path.glob("gpu-*-nvidia-h200.json")
        content = json.loads(file.read_text())
        assert (content["device"], content["driver"]) == ("NVIDIA H200", "580.1")
        assert "| second | passed |" in file.with_suffix(".md").read_text()
        second = next(each for each in content["stages"] if each["stage"] == "second")
        assert '"not well\\n"' in second["said"], "the first was in the file when the second ran"
        return {each["stage"]: each["passed"] for each in content["stages"]}

    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert stages_kept() == {"first": False, "second": True}
    wanted[0] = Stage("first", (sys.executable, "-c", ""), 60)
    assert gpu.main(["--results", str(tmp_path), "--only", "first"]) == 0
    assert stages_kept() == {"first": True, "second": True}
    assert "FAILED   first" in capsys.readouterr().out


def test_the_table_names_stages_and_rows() -> None:
    aimed: dict[str, object] = {"target": 0.75, "at_least": True, "met": False}
    rows: list[dict[str, object]] = [{"name": "copy", "value": 0.5, "unit": "GB/s", **aimed}]
    rows.append({"name": "other", "value": 2.0, "unit": "s", "target": None})
    text = table("H200", [Outcome("build", True, 1.0, "", rows), Outcome("speed", False, 2.0, "", [])])
    assert "| build | passed | 1.0 |" in text
    assert "| speed | FAILED | 2.0 |" in text
    assert "| copy | 0.5 | GB/s | ≥ 0.75 | MISSED |" in text
    assert "| other | 2 | s |" in text


def test_without_a_card_nothing_is_claimed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "card_name", lambda: ("", ""))
    assert gpu.main(["--results", str(tmp_path)]) == 1
    assert "nothing to measure" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


FAKE_SANITIZER = """#!/bin/sh
while [ "${1#--}" != "$1" ]; do shift 2; done
exec "$@"
"""


def test_every_stage_names_a_program_that_is_there() -> None:
    for stage in gpu.stages():
        module = next(word for word in stage.command if word.startswith(("benchmarks.", "cuda_ext.")))
        assert importlib.util.find_spec(module) is not None


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_run_on_the_emulated_device(
    emulated: EmulatedRuntime, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every stage as the process that it is, with the packages that a machine with a GPU may lack blocked."""
    sanitizer = tmp_path / "compute-sanitizer"
    sanitizer.write_text(FAKE_SANITIZER)
    sanitizer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(gpu, "card_name", lambda: ("NVIDIA H200", "580.1"))
    limited = gpu.stages
    monkeypatch.setattr(gpu, "stages", lambda start: [replace(each, seconds=3600) for each in limited(start)])

    def start(module: str, *arguments: str) -> tuple[str, ...]:
        if module == "cuda_ext.build":
            return sys.executable, "-c", "raise SystemExit('a build that fails keeps nothing else from running')"
        if module == "cuda_ext.report":
            return sys.executable, "-c", "print('nothing spills')"
        return sys.executable, "-m", "tests.emulation.stage", str(emulated.library.path), module, *arguments

    assert gpu.main(["--results", str(tmp_path), "--minutes", "60"], start) == 1
    (file,) = tmp_path.glob("gpu-*-nvidia-h200.json")
    found = {each["stage"]: each for each in json.loads(file.read_text())["stages"]}
    said = capsys.readouterr().out
    assert list(found) == [stage.name for stage in limited()]
    assert [name for name, each in found.items() if not each["passed"]] == ["build for this card"], said
    with_rows = {stage.name for stage in limited() if stage.gives_rows}
    assert {name for name, each in found.items() if each["rows"]} == with_rows
    shown = file.with_suffix(".md").read_text()
    assert all(f"| {row['name']} |" in shown for each in found.values() for row in each["rows"])
    assert "| build for this card | FAILED |" in shown
