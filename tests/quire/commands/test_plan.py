"""`quire plan`: the figures of a start, without one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from engine.build import build_engine
from engine.config import EngineConfig
from engine.errors import CapacityError, ConfigError
from engine.model.checkpoint import Checkpoint
from quire.commands import plan
from tests.end_to_end.engine_runs import write_tiny_llama
from tests.quire.stand_in_hub import StandInHub, stand_in_hub


@pytest.fixture
def model(tmp_path: Path) -> str:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    return str(directory)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    plan.run([*arguments, "--json"])
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


def test_it_says_what_a_start_then_takes(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = planned(capsys, model, "--kv-cache-tokens", "128", "--threads", "1")
    _, info = build_engine(EngineConfig(model=model, kv_cache_tokens=128, threads=1))

    assert report["fits"] is True
    assert report["weight_bytes"] == info.weight_bytes
    assert report["kv_cache_bytes"] == info.kv_cache_bytes
    assert report["settings"] == {
        "kv_cache_tokens": info.kv_cache_tokens,
        "kv_cache_dtype": info.kv_cache_dtype,
        "block_size": info.block_size,
        "max_model_len": info.max_model_len,
        "max_num_seqs": 64,
        "max_num_batched_tokens": 512,
    }


def test_for_people(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan.run([model, "--threads", "1"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "weights",
        "workspace",
        "KV cache",
        "total",
        "free now",
        "headroom",
    ]


def test_nothing_is_loaded(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Checkpoint, "tensor")
    assert plan.run([model, "--threads", "1"]) == 0


@pytest.fixture
def on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub with a model in two files, of half a megabyte together."""
    directory = tmp_path / "wide"
    write_tiny_llama(directory)
    tensors = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    for number in range(2):
        part = {name: tensor for at, (name, tensor) in enumerate(tensors.items()) if at % 2 == number}
        save_file(part, directory / f"output-{number}.safetensors", {"format": "pt"})
    files = {path.name: path.read_bytes() for path in directory.iterdir()}
    with stand_in_hub({"org/wide": {"main": files}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def test_of_a_model_on_the_hub_only_the_headers_are_fetched(
    on_the_hub: StandInHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--kv-cache-tokens", "128", "--threads", "1")
    from_the_hub = planned(capsys, "org/wide", *arguments)
    from_the_disk = planned(capsys, str(tmp_path / "wide"), *arguments)
    for report in (from_the_hub, from_the_disk):  # these change from moment to moment
        for name in ("free_bytes", "headroom_bytes", "most_kv_cache_tokens"):
            report.pop(name)
    assert from_the_hub == from_the_disk
    assert {*on_the_hub.fetched} == {"config.json", "output-0.safetensors", "output-1.safetensors"}
    assert on_the_hub.sent < 250_000 < sum(map(len, on_the_hub.models["org/wide"]["main"].values()))


def test_what_does_not_fit(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    too_much = [model, "--threads", "1", "--kv-cache-tokens", str(2**30)]
    with pytest.raises(CapacityError, match="kv_cache_tokens="):
        plan.run(too_much)

    assert plan.run([*too_much, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["fits"] is False
    assert "does not fit" in report["reason"]


def test_settings_are_those_of_serve(model: str) -> None:
    with pytest.raises(ConfigError, match="--max-num-seqs"):
        plan.run([model, "--max-num-seq", "3"])
