"""Jobs that are ended at any moment go on where they were, and write what an undisturbed job writes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import QuantizationError
from quantize.job import QuantizeOptions, quantize_model
from quantize.work_directory import WorkDirectory, open_work, work_path
from tests.quantize.models import NoProgress, SilentProgress, write_dense_model, write_text


class Crash(BaseException):
    """What no code expects: the end of the process, as far as a test can play it."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> QuantizeOptions:
    """A job; the output is to be replaced."""
    folder = tmp_path_factory.mktemp("resume")
    model = write_dense_model(folder / "model", inner=64)
    text = write_text(folder / "text.txt", words=1500)
    return QuantizeOptions(
        model, folder / "out", (4.0,), rows=2, length=32, calibration=(str(text),), threads=1, shard_bytes=30_000
    )


@pytest.fixture(scope="module")
def undisturbed(options: QuantizeOptions) -> dict[str, bytes]:
    """What the job writes."""
    quantize_model(options, progress=NoProgress())
    return content(options.out)


TIMED = {"quantization_report.json", "quantization_report.html"}


def content(out: Path) -> dict[str, bytes]:
    """Everything but the reports, which tell how long things took."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name not in TIMED}


def crash_at(monkeypatch: pytest.MonkeyPatch, count: int, *, after: bool) -> None:
    """End the process before or after the `count`-th time that a file gets its name."""
    rename, calls = os.replace, iter(range(1, 1000))

    def watch(source: Path, target: Path) -> None:
        now = next(calls) == count
        if now and not after:
            raise Crash
        rename(source, target)
        if now:
            raise Crash

    monkeypatch.setattr(os, "replace", watch)


CHECKPOINTS = 9  # settings, calibration, measurement, seconds, embedding, two layers, head, publication


@pytest.mark.parametrize(
    ("count", "after"),
    [
        pytest.param(count, after, marks=[] if after == (count % 2 == 0) else pytest.mark.slow)
        for count in range(1, CHECKPOINTS + 1)
        for after in (False, True)
    ],
)
def test_a_crash_at_any_checkpoint_costs_at_most_one_step(
    options: QuantizeOptions,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    after: bool,
) -> None:
    job = replace(options, out=tmp_path / "out")
    with monkeypatch.context() as patch:
        crash_at(patch, count, after=after)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    assert not job.out.exists()
    progress = SilentProgress()
    (report,) = quantize_model(job, progress=progress)
    assert content(job.out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert len(report.matrices) == 15
    stages = [name for name, _ in progress.stages]
    assert ("Measuring" in stages) == (count < 3 or (count == 3 and not after))


def test_there_are_no_other_checkpoints(
    options: QuantizeOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash_at(monkeypatch, CHECKPOINTS + 1, after=False)
    quantize_model(replace(options, out=tmp_path / "out"), progress=NoProgress())


@pytest.fixture
def interrupted(options: QuantizeOptions, tmp_path: Path) -> QuantizeOptions:
    """A job that ended after its first layer."""
    job = replace(options, out=tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, 6, after=True)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    return job


def test_changed_settings_are_refused_and_named(interrupted: QuantizeOptions, undisturbed: dict[str, bytes]) -> None:
    changed = replace(interrupted, bpw=(5.0,), seed=3)
    message = r"bpw was \[4.0\] and is now \[5.0\]; seed was 0 and is now 3. Use the same settings again .* --restart"
    with pytest.raises(QuantizationError, match=message):
        quantize_model(changed, progress=NoProgress())
    assert not interrupted.out.exists()
    quantize_model(interrupted, progress=NoProgress())
    assert content(interrupted.out) == undisturbed


def test_until_a_size_is_begun_another_may_be_asked_for(options: QuantizeOptions, tmp_path: Path) -> None:
    """Even where not only a plan was asked for: the measurement is good for any."""
    job = replace(options, out=tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, 4, after=True)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    progress = SilentProgress()
    (report,) = quantize_model(replace(job, bpw=(5.0,)), progress=progress)
    assert report.bpw_requested == 5.0
    assert "Measuring" not in [name for name, _ in progress.stages]


def test_sizes_may_be_added_to_a_job_of_several(
    options: QuantizeOptions, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    """What has been begun must still be asked for, and a size goes to another directory if it is the only one."""
    job = replace(options, bpw=(5.0, 4.0), out=tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, 6, after=True)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    for sizes in ((5.0,), (4.0, 6.0)):
        with pytest.raises(QuantizationError, match=r"bpw was \[5.0, 4.0\] and is now"):
            quantize_model(replace(job, bpw=sizes), progress=NoProgress())
    with pytest.raises(QuantizationError, match="head-bits was 6 and is now 8"):
        quantize_model(replace(job, bpw=(5.0, 4.0, 6.0), head_bits=8), progress=NoProgress())
    progress = SilentProgress()
    quantize_model(replace(job, bpw=(4.0, 6.0, 5.0)), progress=progress)
    assert "Measuring" not in [name for name, _ in progress.stages]
    assert {path.name for path in tmp_path.iterdir()} == {"out-4.0bpw", "out-5.0bpw", "out-6.0bpw"}
    assert content(tmp_path / "out-4.0bpw") == undisturbed


def test_a_changed_text_and_a_changed_source_are_noticed(
    interrupted: QuantizeOptions, tmp_path: Path, options: QuantizeOptions
) -> None:
    other = write_text(tmp_path / "text.txt", words=1500, seed=1)
    with pytest.raises(QuantizationError, match=r"calibration was .*text.txt.* and is now "):
        quantize_model(replace(interrupted, calibration=(str(other),)), progress=NoProgress())
    model = write_dense_model(tmp_path / "model", inner=64, seed=1)
    with pytest.raises(QuantizationError, match="weights of the source"):
        quantize_model(replace(interrupted, source=model), progress=NoProgress())


def test_restart_throws_the_work_away(interrupted: QuantizeOptions) -> None:
    progress = SilentProgress()
    (report,) = quantize_model(replace(interrupted, bpw=(5.0,), restart=True), progress=progress)
    assert report.bpw_requested == 5.0
    assert "Measuring" in [name for name, _ in progress.stages]


@pytest.mark.parametrize("name", ["part-00001.safetensors", "streams-00002/quantized.f32"])
def test_damaged_work_is_refused_by_name(interrupted: QuantizeOptions, name: str) -> None:
    path = work_path(interrupted) / "4.0bpw" / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(QuantizationError, match=rf"{path.name} is not what the interrupted job left .*--restart"):
        quantize_model(interrupted, progress=NoProgress())


def test_one_job_at_a_time(interrupted: QuantizeOptions) -> None:
    with (
        open_work(work_path(interrupted), restart=False),
        pytest.raises(QuantizationError, match="Another job is at work"),
    ):
        quantize_model(interrupted, progress=NoProgress())


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(options: QuantizeOptions, tmp_path: Path, restart: bool) -> None:
    (tmp_path / "out.work").mkdir()
    (tmp_path / "out.work" / "thesis.tex").touch()
    with pytest.raises(QuantizationError, match=r"holds something else \(thesis.tex\)"):
        quantize_model(replace(options, out=tmp_path / "out", restart=restart), progress=NoProgress())
    assert (tmp_path / "out.work" / "thesis.tex").exists()


@pytest.mark.parametrize("count", [pytest.param(6, marks=pytest.mark.slow), 9])
def test_work_for_an_empty_directory_lies_inside(
    options: QuantizeOptions, undisturbed: dict[str, bytes], tmp_path: Path, count: int
) -> None:
    """It may be a mounted volume: what is beside it may be another file system."""
    job = replace(options, out=tmp_path / "out")
    job.out.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        crash_at(patch, count, after=True)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    assert [path.name for path in job.out.iterdir()] == ["quire.work"]
    quantize_model(job, progress=NoProgress())
    assert content(job.out) == undisturbed


def test_a_crash_while_files_are_moved(
    options: QuantizeOptions, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = replace(options, out=tmp_path / "out")
    job.out.mkdir()
    rename = Path.rename

    def watch(path: Path, target: Path) -> Path:
        if path.name == "config.json":
            raise Crash
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", watch)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    assert not (job.out / "config.json").exists()
    quantize_model(job, progress=NoProgress())
    assert content(job.out) == undisturbed


@pytest.mark.parametrize("lost", [False, True])
def test_a_crash_after_everything_is_done(
    options: QuantizeOptions,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: bool,
) -> None:
    """Only the work directory is left to be removed; unless somebody has removed the model instead."""
    job = replace(options, out=tmp_path / "out")

    def crash(work: WorkDirectory) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(WorkDirectory, "remove", crash)
        with pytest.raises(Crash):
            quantize_model(job, progress=NoProgress())
    if lost:
        shutil.rmtree(job.out)
    progress = SilentProgress()
    quantize_model(job, progress=progress)
    assert content(job.out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert ("Quantizing to 4 bits" in [name for name, _ in progress.stages]) == lost


def test_a_crash_while_the_work_is_thrown_away(
    options: QuantizeOptions, undisturbed: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is over by then: no half of its work is taken for work, and a later job clears it away."""
    job = replace(options, out=tmp_path / "out")

    def crash(path: Path, *, ignore_errors: bool) -> None:
        raise Crash

    with open_work(work_path(job), restart=False) as work:
        work.agree({})
        work.measurement.touch()
        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", crash)
            with pytest.raises(Crash):
                work.remove()
    assert not work_path(job).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out.work.being-deleted"]
    quantize_model(job, progress=NoProgress())
    assert content(job.out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_crash_while_work_is_restarted(interrupted: QuantizeOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is still known as the work of a job."""
    unlink = Path.unlink

    def crash(path: Path, missing_ok: bool = False) -> None:
        unlink(path, missing_ok=missing_ok)
        raise Crash

    path = work_path(interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", crash)
        with pytest.raises(Crash), open_work(path, restart=True):
            pass
    assert (path / "job.json").exists()
    with open_work(path, restart=True):
        assert [each.name for each in path.iterdir()] == ["scratch"]


RUN = """
import sys
from pathlib import Path
from quantize.job import QuantizeOptions, quantize_model

class Loud:
    def stage(self, name, total, done=0):
        print("stage", flush=True)

    def advance(self, steps=1, note=""):
        print("step", flush=True)

model, out, text = map(Path, sys.argv[1:])
options = QuantizeOptions(
    model, out, (4.0,), rows=2, length=32, calibration=(str(text),), threads=1, shard_bytes=30_000
)
quantize_model(options, progress=Loud())
"""


class Child:
    """The job in a process of its own, which says whenever it has done something."""

    def __init__(self, options: QuantizeOptions, out: Path) -> None:
        self.out = out
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        command = [sys.executable, "-c", RUN, str(options.source), str(out), options.calibration[0]]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)

    def finish(self) -> int:
        """Let it come to its end; how often it has said something."""
        said, _ = self._process.communicate()
        assert self._process.returncode == 0
        return len(said.splitlines())

    def kill(self, words: int, delay: float) -> bool:
        """Kill it a moment after it has said so many words; whether it was the end of the job, but for the process."""
        assert self._process.stdout is not None
        for _ in zip(range(words), self._process.stdout, strict=False):
            pass
        time.sleep(delay)
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        return self.out.exists() and not self.out.with_name("out.work").exists()


@pytest.fixture(scope="module")
def words(options: QuantizeOptions, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often an undisturbed process says something."""
    return Child(options, tmp_path_factory.mktemp("whole") / "out").finish()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", range(7))
def test_killed_jobs_write_the_same_bytes(
    options: QuantizeOptions, undisturbed: dict[str, bytes], words: int, tmp_path: Path, case: int
) -> None:
    """A process is killed at three random moments, and then one comes to the end."""
    out, draws = tmp_path / "out", random.Random(case)
    over = False
    for most in (words, words // 2, words // 4):
        over = over or Child(options, out).kill(draws.randint(1, most), draws.uniform(0, 0.2))
    if not over:
        Child(options, out).finish()
    assert content(out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
