"""What memory a job takes is bounded by one layer, and jobs that do not fit are refused before anything is read."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import CapacityError, QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.tensor_layout import tensor_layout
from quantize.memory import check_memory, layer_bytes, needed_memory
from quantize.options import QuantizeOptions
from tests.quantize.models import HIDDEN, INNER, write_dense_model, write_text

LAYER = HIDDEN * (HIDDEN + HIDDEN // 2 + HIDDEN // 2 + HIDDEN) + 3 * HIDDEN * INNER


class Job:
    """A job on a small model, and the memory there is for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options = QuantizeOptions(write_dense_model(folder), folder / "out", rows=100, length=500)
        self.config = load_config(folder)
        self.layout = tensor_layout(self.config, Checkpoint.open(folder))
        self._monkeypatch = monkeypatch

    @property
    def needed(self) -> int:
        return needed_memory(self.options, self.config, self.layout)

    def check(self, free: int, options: QuantizeOptions | None = None) -> None:
        self._monkeypatch.setattr("quantize.device.free_memory", lambda: free)
        check_memory(options or self.options, self.config, self.layout)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(tmp_path, monkeypatch)


def test_what_fits_exactly_is_let_through(job: Job) -> None:
    assert layer_bytes(job.layout) == 4 * LAYER
    job.check(job.needed)
    with pytest.raises(QuantizationError, match=r"of memory \(.*for one layer.*but only .* GiB are free"):
        job.check(job.needed - 1)


def test_rows_and_layers_cost_no_memory(job: Job, tmp_path: Path) -> None:
    needed = job.needed
    job.options = replace(job.options, rows=10**12)
    assert job.needed == needed
    deep = write_dense_model(tmp_path / "deep", layers=9)
    config = load_config(deep)
    assert needed_memory(job.options, config, tensor_layout(config, Checkpoint.open(deep))) == needed


def test_a_system_that_does_not_tell_is_trusted(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> int:
        raise CapacityError("it does not say")

    monkeypatch.setattr("quantize.device.free_memory", silent)
    check_memory(job.options, job.config, job.layout)


PEAK = """
import ctypes, json, sys, threading
from pathlib import Path
from quantize.job import QuantizeOptions, quantize_model
from tests.quantize.models import NoProgress

model, out, text = map(Path, sys.argv[1:4])
options = QuantizeOptions(model, out, rows=int(sys.argv[4]), length=128, calibration=(str(text),), threads=1)
peaks, ended = [], threading.Event()


class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]


mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Heap


def used():
    heap = mallinfo2()
    return heap.uordblks + heap.hblkhd


def watch():
    while not ended.wait(0.002):
        peaks.append(used())


watcher = threading.Thread(target=watch)
before = used()
watcher.start()
quantize_model(options, progress=NoProgress())
ended.set()
watcher.join()
print(json.dumps([before, max(peaks)]))
"""


def _peak(model: Path, folder: Path, rows: int) -> int:
    """Bytes that a job in a process of its own holds at most, beyond what it begins with.

    What it has allocated, not the pages it was given: those depend on where the allocator finds room.
    """
    text = write_text(folder / "text.txt", words=40_000)
    command = [sys.executable, "-c", PEAK, str(model), str(folder / "out"), str(text), str(rows)]
    before, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return int(peak) - int(before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="counts with mallinfo2 of glibc 2.33")
def test_measured_memory_is_bounded_by_a_layer(tmp_path: Path) -> None:
    """A model of 2 and one of 8 layers, 8 rows and 64: the peak is that of one layer, and below the estimate."""
    peaks = {}
    for layers, rows in ((2, 8), (8, 8), (2, 64)):
        folder = tmp_path / f"{layers}-{rows}"
        model = write_dense_model(folder / "model", layers=layers, hidden=512, inner=1536, vocabulary=512)
        config = load_config(model)
        layout = tensor_layout(config, Checkpoint.open(model))
        options = QuantizeOptions(model, folder / "out", rows=rows, length=128)
        estimate, layer = needed_memory(options, config, layout), layer_bytes(layout)
        peaks[layers, rows] = _peak(model, folder, rows)
        assert peaks[layers, rows] < estimate
    # where the weights of each of the six more layers were kept, even in half precision, it would be three of these
    assert peaks[8, 8] < peaks[2, 8] + layer
    assert peaks[2, 64] < peaks[2, 8] + layer
