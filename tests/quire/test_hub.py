from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from engine.errors import CheckpointError, ConfigError, HubError
from engine.model.checkpoint import Checkpoint
from quire.hub import find_model, find_outline
from tests.quire.stand_in_hub import StandInHub, stand_in_hub

MAIN = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights",
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"hi",
    "LICENSE": b"terms",
    "README.md": b"read me",
    "pytorch_model.bin": b"pickled",
    "original/consolidated.00.safetensors": b"again",
}
MODELS = {
    "org/tiny": {
        "main": MAIN,
        "4.0bpw": {**MAIN, "model.safetensors": b"four bits"},
        "pickled": {name: data for name, data in MAIN.items() if not name.endswith(".safetensors")},
        "bare": {name: data for name, data in MAIN.items() if name != "config.json"},
    },
    "org/secret": {"main": MAIN},
}


@pytest.fixture(scope="module")
def shared_hub() -> Iterator[StandInHub]:
    with stand_in_hub(MODELS, gated=frozenset({"org/secret"})) as hub:
        yield hub


@pytest.fixture
def hub(shared_hub: StandInHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StandInHub:
    monkeypatch.setenv("HF_ENDPOINT", shared_hub.endpoint)
    monkeypatch.chdir(tmp_path)
    shared_hub.fetched.clear()
    return shared_hub


def test_fetches_what_a_model_needs_and_no_more(hub: StandInHub, tmp_path: Path) -> None:
    found = find_model("org/tiny", cache=tmp_path / "cache")
    assert found.name == "org/tiny"
    assert {path.name for path in found.directory.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "chat_template.jinja",
        "LICENSE",
        "README.md",
    }
    assert (found.directory / "model.safetensors").read_bytes() == b"weights"


def test_a_revision_is_a_branch_or_a_commit(hub: StandInHub, tmp_path: Path) -> None:
    for revision in ("4.0bpw", hub.commit("org/tiny", "4.0bpw")):
        found = find_model("org/tiny", revision, cache=tmp_path / revision)
        assert (found.directory / "model.safetensors").read_bytes() == b"four bits"


def test_a_second_start_downloads_nothing(hub: StandInHub, tmp_path: Path) -> None:
    first = find_model("org/tiny", cache=tmp_path)
    assert hub.fetched
    hub.fetched.clear()
    assert find_model("org/tiny", cache=tmp_path) == first
    assert hub.fetched == []


def test_what_is_cached_serves_without_a_connection(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find_model("org/tiny", cache=tmp_path)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert find_model("org/tiny", cache=tmp_path) == first


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("org/missing", "", "no model of that name on http://127"),
        ("org/tiny", "9.9bpw", r"org/tiny has no revision '9\.9bpw'"),
        ("org/secret", "", "org/secret is gated: accept its terms"),
        ("org/a..b", "", "is no hub id"),
    ],
)
def test_refusals(hub: StandInHub, tmp_path: Path, model: str, revision: str, message: str) -> None:
    with pytest.raises(HubError, match=message):
        find_model(model, revision, cache=tmp_path)


def test_no_connection_and_nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"not complete in the local cache and http://127.0.0.1:9 cannot be reached"):
        find_model("org/tiny", cache=tmp_path)


def weights_bytes(**tensors: torch.Tensor) -> bytes:
    return save(tensors, {"format": "pt"})


def test_an_outline_has_the_headers_of_the_weights_and_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = weights_bytes(a=torch.ones(300_000), b=torch.ones(2, 3, dtype=torch.float16), c=torch.ones(()))
    files = {**MAIN, "output.safetensors": weights, "model.safetensors": weights_bytes(d=torch.ones(7))}
    with stand_in_hub({"org/tiny": {"main": MAIN, "large": files}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        with find_outline("org/tiny", "large") as found:
            assert found.name == "org/tiny"
            assert (found.directory / "config.json").read_bytes() == MAIN["config.json"]
            outline = Checkpoint.open(found.directory)
            assert {name: outline.shape(name) for name in outline.names} == {
                **{"a": (300_000,), "b": (2, 3), "c": ()},
                "d": (7,),
            }
            assert outline.dtype("b") == torch.float16
            assert found.directory.joinpath("output.safetensors").stat().st_blocks * 512 < 100_000
        assert not found.directory.exists()
        assert hub.sent < 110_000 < len(weights)


def test_an_outline_of_a_directory_is_the_directory(tmp_path: Path) -> None:
    with find_outline(str(tmp_path)) as found:
        assert found == find_model(str(tmp_path))


@pytest.mark.parametrize(
    ("model", "revision", "message"),
    [
        ("org/missing", "", "no model of that name on http://127"),
        ("org/tiny", "9.9bpw", r"org/tiny has no revision '9\.9bpw'"),
        ("org/secret", "", "org/secret is gated: accept its terms"),
        ("org/tiny", "", "org/tiny has weights that cannot be read"),
        ("org/tiny", "pickled", r"org/tiny has no \*\.safetensors on http://127"),
        ("org/tiny", "bare", r"org/tiny has no config\.json on http://127"),
    ],
)
def test_there_is_no_outline_of(hub: StandInHub, model: str, revision: str, message: str) -> None:
    with pytest.raises(HubError, match=message), find_outline(model, revision):
        pass


def test_without_a_connection_an_outline_is_what_is_cached(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    cached = find_model("org/tiny")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with find_outline("org/tiny") as found:
        assert found == cached
    with pytest.raises(HubError, match=r"http://127.0.0.1:9"), find_outline("org/other"):
        pass


def test_a_directory_of_that_name_wins(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "org" / "tiny").mkdir(parents=True)
    assert find_model("org/tiny").directory == Path("org/tiny")
    assert find_model("org/tiny").name == "tiny"
    assert hub.fetched == []
    with pytest.raises(ConfigError, match="leave --revision out"):
        find_model("org/tiny", "4.0bpw")


@pytest.mark.parametrize("model", ["nowhere", "./org/tiny", "/no/such/dir", "a/b/c"])
def test_what_can_be_no_hub_id_is_a_missing_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="There is no directory"):
        find_model(model)


@pytest.mark.parametrize(
    ("model", "message"),
    [("x" * 300, "File name too long"), ("~nobody-of-this-name/x", "home directory"), ("a\0b", "no hub id|null")],
)
def test_names_no_file_can_have(model: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        find_model(model)


def test_a_place_that_may_not_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", forbid)
    with pytest.raises(CheckpointError, match="/root/model cannot be looked at: Permission denied"):
        find_model("/root/model")


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a file; name the directory"):
        find_model(str(tmp_path / "model.safetensors"))


def test_from_the_command_line(hub: StandInHub, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "quire", "generate", "org/tiny", "hi", "--revision", "nope"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: org/tiny has no revision 'nope'")
    assert done.stderr.count("\n") == 1
