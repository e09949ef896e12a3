"""Jobs that do not fit in memory are refused before anything is read."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import CapacityError, QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.tensor_layout import tensor_layout
from quantize.memory import check_memory, model_bytes, row_bytes, work_bytes
from quantize.options import QuantizeOptions
from tests.quantize.models import HIDDEN, INNER, LAYERS, write_dense_model


class Job:
    """A job on a small model, and the memory there is for it."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.options = QuantizeOptions(write_dense_model(folder), folder / "out", rows=100, length=500)
        self.config = load_config(folder)
        self.layout = tensor_layout(self.config, Checkpoint.open(folder))
        self._monkeypatch = monkeypatch

    @property
    def fixed(self) -> int:
        return model_bytes(self.config, self.layout) + work_bytes(self.options, self.config, self.layout)

    def check(self, free: int, options: QuantizeOptions | None = None) -> None:
        self._monkeypatch.setattr("quantize.memory.free_memory", lambda: free)
        check_memory(options or self.options, self.config, self.layout)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    return Job(tmp_path, monkeypatch)


def test_the_parts_follow_from_the_shapes(job: Job) -> None:
    layer = HIDDEN * (HIDDEN + HIDDEN // 2 + HIDDEN // 2 + HIDDEN) + 3 * HIDDEN * INNER
    embedding = job.config.vocab_size * HIDDEN
    assert model_bytes(job.config, job.layout) == 4 * (LAYERS * layer + 2 * embedding)
    assert row_bytes(job.config, job.layout) == 8 * (HIDDEN + INNER)


def test_what_fits_exactly_is_let_through(job: Job) -> None:
    needed = job.fixed + 100 * 128 * row_bytes(job.config, job.layout)  # 128 tokens are the model's context
    job.check(needed)
    with pytest.raises(QuantizationError, match=r"of memory \(.*but only .* GiB are free"):
        job.check(needed - 1)


def test_the_rows_that_it_advises_do_fit(job: Job) -> None:
    free = job.fixed + 5000 * row_bytes(job.config, job.layout)
    with pytest.raises(QuantizationError) as caught:
        job.check(free)
    found = re.search(r"Of 12800 calibration tokens, (\d+) would fit: use fewer or shorter rows\.", str(caught.value))
    assert found is not None
    assert int(found[1]) == 5000
    job.check(free, replace(job.options, rows=5000 // 128))


def test_a_model_that_does_not_fit_whatever_the_rows(job: Job) -> None:
    with pytest.raises(QuantizationError, match=r"Use a machine with more memory\.$"):
        job.check(job.fixed - 1)


def test_absurd_rows_are_refused_before_they_are_written(job: Job) -> None:
    with pytest.raises(QuantizationError, match="are free"):
        job.check(1 << 40, replace(job.options, rows=10**12))


def test_a_system_that_does_not_tell_is_trusted(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent() -> int:
        raise CapacityError("it does not say")

    monkeypatch.setattr("quantize.memory.free_memory", silent)
    check_memory(job.options, job.config, job.layout)


def test_contexts_limit_rows(job: Job, tmp_path: Path) -> None:
    config = json.loads((tmp_path / "config.json").read_text()) | {"max_position_embeddings": 10}
    (tmp_path / "config.json").write_text(json.dumps(config))
    job.config = load_config(tmp_path)
    job.check(job.fixed + 100 * 10 * row_bytes(job.config, job.layout))
