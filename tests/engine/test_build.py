"""What a loaded engine says about its model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from engine.build import build_engine
from engine.config import EngineConfig
from engine.errors import CapacityError, CheckpointError, DeviceError
from engine.model.checkpoint import Checkpoint
from engine.ops.torch_memory import TorchMemory
from tests.end_to_end.engine_runs import write_tiny_llama


def test_the_model_is_called_by_its_given_name_or_by_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    for given, expected in (("", "tiny"), ("org/model", "org/model")):
        _, model = build_engine(EngineConfig(model=str(directory), name=given, threads=1, kv_cache_tokens=64))
        assert (model.name, model.path) == (expected, str(directory))


class Recorded:
    """A `LoadReport` that keeps what it is told."""

    def __init__(self, room_to_come: int = 0) -> None:
        self.room_to_come = room_to_come
        self.told: list[tuple[str, int]] = []
        self.done: list[int] = []

    def checked(self) -> None:
        self.told.append(("checked", 0))

    def stage(self, name: str, total: int = 0) -> None:
        self.told.append((name, total))

    def reach(self, done: int) -> None:
        self.done.append(done)


def test_loading_tells_how_far_it_is(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    report = Recorded()
    build_engine(EngineConfig(model=str(directory), threads=1, kv_cache_tokens=64), report)
    names = [name for name, _ in report.told]
    assert names == ["checks", "checked", "weights", "cache", "warm-up"]
    total = dict(report.told)["weights"]
    assert 0 < report.done[0] < report.done[-1] <= total == Checkpoint.open(directory).num_bytes


def test_a_model_that_does_not_fit_is_refused_before_room_is_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    monkeypatch.setattr(TorchMemory, "free", lambda _: 1 << 20)
    settings = EngineConfig(model=str(directory), threads=1, kernels="torch", kv_cache_tokens=1 << 20)
    for room, told in ((1 << 20, ["checks"]), (1 << 40, ["checks", "checked"])):
        report = Recorded(room)
        with pytest.raises(CapacityError):  # the second time because the room that was promised did not come
            build_engine(settings, report)
        assert [name for name, _ in report.told] == told


def test_a_tokenizer_that_is_much_too_small_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    settings = EngineConfig(model=str(directory), threads=1, kv_cache_tokens=64)
    build_engine(settings)
    assert "another model's" not in caplog.text

    path = directory / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    few = dict(sorted(vocabulary.items(), key=lambda item: item[1])[: len(vocabulary) // 2])
    tokenizer["model"].update(vocab=few, merges=[])
    path.write_text(json.dumps(tokenizer))
    build_engine(settings)
    assert "another model's" in caplog.text


def test_an_end_token_beyond_the_vocabulary_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    (directory / "generation_config.json").write_text('{"eos_token_id": [2, 99999]}')
    with pytest.raises(CheckpointError, match="end token 99999 is not in the model's vocabulary"):
        build_engine(EngineConfig(model=str(directory), threads=1, kv_cache_tokens=64))


def test_what_does_not_fit_is_refused_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    monkeypatch.delattr(Checkpoint, "tensor")
    monkeypatch.setattr("engine.ops.cpu_memory.free_memory", lambda: 2**16)
    with pytest.raises(CapacityError, match="does not fit in memory"):
        build_engine(EngineConfig(model=str(directory), threads=1))


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), CapacityError),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), DeviceError),
    ],
)
def test_a_device_that_fails_while_the_engine_is_built_is_told_as_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: type[Exception]
) -> None:
    write_tiny_llama(tmp_path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("engine.build.PagedKVCache", fail)
    with pytest.raises(told, match="CUDA"):
        build_engine(EngineConfig(model=str(tmp_path), threads=1, kv_cache_tokens=64))
