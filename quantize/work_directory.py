"""Where a job keeps what it has done, so that it can be ended at any moment and go on later.

    OUT.work/
        job.json                 what was asked for
        calibration.safetensors  the calibration tokens
        measurement.json         what each choice of widths would cost
        scratch/                 of no use after the step that is being done
        4.0bpw/                  one folder per size; see `journal.py`

Every file that counts is written under another name first, and renamed when the disk has it. When the job is over the
directory is renamed before it is deleted, so that what is called OUT.work is always whole.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path

from engine.errors import QuantizationError
from engine.model_files import read_json_object
from quantize.atomic_file import write_atomically
from quantize.options import QuantizeOptions, size_name
from quantize.output_directory import WORK, removed_name

JOB_FILE = "job.json"
MEASUREMENT_FILE = "measurement.json"
CALIBRATION_FILE = "calibration.safetensors"

SIZE_SETTINGS = frozenset({"bpw", "bpw-total", "head-bits", "override", "shard-bytes"})
"""Settings that calibration and measurement do not depend on."""

Settings = Mapping[str, object]
"""What decides about the result, by the names people know; values as JSON has them."""


def work_path(options: QuantizeOptions) -> Path:
    """The work directory of a job: beside its output, or inside it where that is an empty directory."""
    real = Path(os.path.realpath(options.out))
    beside = real.with_name(f"{real.name}.work")
    if len(options.bpw) > 1 or not real.is_dir() or (beside / JOB_FILE).exists():  # the last: `real` is its result
        return beside
    return real / WORK


def kept_work(options: QuantizeOptions) -> Path | None:
    """The work directory of a job, if there is work in it that a later job can go on with."""
    path = work_path(options)
    return path if (path / JOB_FILE).exists() else None


class WorkDirectory:
    """The files of one job. Made by `open_work`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def calibration(self) -> Path:
        """File of the calibration tokens."""
        return self.path / CALIBRATION_FILE

    @property
    def measurement(self) -> Path:
        """File of the measurement."""
        return self.path / MEASUREMENT_FILE

    @property
    def seconds(self) -> Path:
        """File of the time everything up to the measurement took."""
        return self.path / "seconds.json"

    @property
    def scratch(self) -> Path:
        """Folder for what is of no use after the step that is being done."""
        return self.path / "scratch"

    def size(self, name: str) -> Path:
        """Folder of one size."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder

    def agree(self, settings: Settings) -> bool:
        """Remember what is asked for, or make sure that it is what was asked for when the work was begun.

        Settings of sizes may change as long as no size has been begun: rows and measurement are good for any. Later,
        sizes may still be added to a job of several, and those left out that have not been begun.

        Returns:
            Whether there is work to go on with.

        Raises:
            QuantizationError: something else was asked for; the message names each difference.
        """
        known = read_json_object(self.path / JOB_FILE, QuantizationError)
        wanted = json.loads(json.dumps(settings))
        changed = [] if known is None else [name for name in {*known, *wanted} if known.get(name) != wanted.get(name)]
        if known is not None and changed and not self._may_change(set(changed), known, wanted):
            differences = "; ".join(
                f"{name} was {json.dumps(known.get(name))} and is now {json.dumps(wanted.get(name))}"
                for name in sorted(changed)
            )
            raise QuantizationError(
                f"{self.path} holds the work of a job that was begun with other settings: {differences}. "
                "Use the same settings again to go on with it, or --restart to throw it away."
            )
        if known != wanted:
            write_atomically(self.path / JOB_FILE, json.dumps(settings, indent=2) + "\n")
        return known is not None

    def _may_change(self, changed: AbstractSet[str], known: Settings, wanted: Settings) -> bool:
        begun = {path.name for path in self.path.glob("*bpw")}
        if not begun:
            return changed <= SIZE_SETTINGS
        before, now = known.get("bpw"), wanted.get("bpw")
        if changed != {"bpw"} or not isinstance(before, list) or not isinstance(now, list):
            return False
        # a single size has another output directory than the same size among several
        return min(len(before), len(now)) > 1 and begun <= {size_name(bpw) for bpw in now}

    def remove(self) -> None:
        """Throw everything away: it is work no more before the first file goes."""
        removed = removed_name(self.path)
        self.path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


@contextmanager
def open_work(path: Path, *, restart: bool) -> Iterator[WorkDirectory]:
    """The work directory `path` for the duration of a `with` block, for one process alone.

    Args:
        path: made if it is not there.
        restart: throw away what is in it.

    Raises:
        QuantizationError: another job is at work in it, it holds something else, or it cannot be written to.
    """
    try:
        _check_ours(path)
        path.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDONLY)
    except OSError as error:
        raise QuantizationError(f"{path}: a job cannot keep its work there: {error.strerror}.") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise QuantizationError(f"Another job is at work in {path}. Wait for it, or end it first.") from None
        work = WorkDirectory(path)
        shutil.rmtree(removed_name(path), ignore_errors=True)  # of a job that was killed over it
        # the job's file last: without it, what is left could not be told from somebody else's
        for stale in sorted(path.iterdir(), key=lambda each: each.name == JOB_FILE) if restart else [work.scratch]:
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        work.scratch.mkdir()
        yield work
    finally:
        if path.is_dir() and not (path / JOB_FILE).exists():  # refused before there was any work
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _check_ours(path: Path) -> None:
    """Refuse to work in a directory that is not ours, and above all to throw its content away."""
    if path.is_dir():
        names = {each.name for each in path.iterdir()}
        if names - {"scratch"} and JOB_FILE not in names:
            raise QuantizationError(
                f"{path} is where the work of this job would be kept, but it holds something else ({min(names)}). "
                "Move it away."
            )
    elif path.exists():
        raise QuantizationError(f"{path} is where the work of this job would be kept, but it is a file. Move it away.")
