"""Jobs that do not fit on the disk are refused, with everything counted that lies there until they are done."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import QuantizationError
from engine.model.checkpoint import Checkpoint
from engine.model.config import load_config
from engine.model.tensor_layout import tensor_layout
from engine.ops.torch_backend import TorchBackend
from quantize.disk import check_disk, model_bytes, work_bytes
from quantize.job import QuantizeOptions, quantize_model
from quantize.streams import StreamFile
from tests.quantize.models import NoProgress, write_dense_model, write_text

Usage = namedtuple("Usage", "total used free")


def test_what_fits_exactly_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = QuantizeOptions(write_dense_model(tmp_path / "model"), tmp_path / "out", (3.0, 4.0))
    config = load_config(options.source)
    layout = tensor_layout(config, Checkpoint.open(options.source))
    needed = sum(model_bytes(options, layout, bpw) for bpw in options.bpw) + work_bytes(options, config, layout)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed))
    check_disk(options, config, layout)
    with pytest.raises(QuantizationError, match=r"out will take about \d+ MiB, and the job \d+ MiB more .* are free"):
        check_disk(replace(options, rows=10_000), config, layout)
    assert work_bytes(replace(options, rows=10_000), config, layout) > work_bytes(options, config, layout)


def test_what_an_earlier_job_has_taken_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that was interrupted goes on, even if what it has made since would not fit a second time."""
    options = QuantizeOptions(write_dense_model(tmp_path / "model"), tmp_path / "out", (3.0, 4.0))
    config = load_config(options.source)
    layout = tensor_layout(config, Checkpoint.open(options.source))
    needed = sum(model_bytes(options, layout, bpw) for bpw in options.bpw) + work_bytes(options, config, layout)
    (tmp_path / "out.work" / "3.0bpw").mkdir(parents=True)
    (tmp_path / "out.work" / "3.0bpw" / "part-00000.safetensors").write_bytes(bytes(3 << 20))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed - (3 << 20)))
    check_disk(options, config, layout)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, needed - (3 << 20) - 1))
    with pytest.raises(QuantizationError, match="are free there, besides the 3 MiB of work that is there already"):
        check_disk(options, config, layout)
    check_disk(options, config, layout, published=[3.0])


def test_the_estimate_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the work directory at any checkpoint is less than what was asked for."""
    text = write_text(tmp_path / "text.txt")
    options = QuantizeOptions(
        write_dense_model(tmp_path / "model"), tmp_path / "out", rows=6, length=64, calibration=(str(text),), threads=1
    )
    config = load_config(options.source)
    layout = tensor_layout(config, Checkpoint.open(options.source))
    sizes: list[int] = []
    remove = StreamFile.remove

    def watch(streams: StreamFile) -> None:
        sizes.append(sum(path.stat().st_size for path in (tmp_path / "out.work").rglob("*") if path.is_file()))
        remove(streams)

    monkeypatch.setattr(StreamFile, "remove", watch)
    quantize_model(options, progress=NoProgress())
    assert len(sizes) > 4
    assert max(sizes) < model_bytes(options, layout, 4.0) + work_bytes(options, config, layout)


def test_a_disk_that_is_full_after_all_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"rows\.f32 cannot be given its \d+ MiB .* Make room on that disk"):
        StreamFile(tmp_path / "rows.f32", 1 << 20, 1 << 20, 1 << 14, TorchBackend())
