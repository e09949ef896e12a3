from __future__ import annotations

from pathlib import Path

import pytest

from engine.config import EngineConfig
from engine.errors import CheckpointError, ConfigError
from quire import catalogue, demo_model
from quire.commands import serve
from quire.hub import ModelSource
from server.config import ServerConfig
from server.models.catalogue import Catalogue


class Served:
    server: ServerConfig
    catalogue: Catalogue
    engine: EngineConfig


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    """What `quire serve` hands to the server, instead of a server."""
    seen = Served()

    def take(server: ServerConfig, catalogue: Catalogue) -> int:
        seen.server, seen.catalogue = server, catalogue
        (start,) = [model for model in catalogue.models if catalogue.start in model.names]
        seen.engine = start.configure({})
        return 0

    monkeypatch.setattr(serve, "run_server", take)
    return seen


def test_flags_reach_both_configurations(served: Served, tmp_path: Path) -> None:
    arguments = ["--port", "9", "--served-model-name", "a,b", "--max-num-seqs", "3", "--no-prefix-caching"]
    assert serve.run([str(tmp_path), *arguments]) == 0
    assert served.server == ServerConfig(port=9, served_model_name=("a", "b"))
    assert served.engine == EngineConfig(model=str(tmp_path), name=tmp_path.name, max_num_seqs=3, prefix_caching=False)


def test_the_model_is_named_after_its_directory(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path / "my-model")
    serve.run(["."])
    assert served.engine.name == "my-model"


def test_a_fetched_model_is_called_by_its_hub_id(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "find_model", lambda model, _: ModelSource(tmp_path / "0123abcd", model))
    serve.run(["org/model"])
    assert (served.engine.model, served.engine.name) == (str(tmp_path / "0123abcd"), "org/model")
    serve.run(["org/model", "--name", "mine"])
    assert served.engine.name == "mine"


def test_precedence(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "quire.toml"
    file.write_text(f'[engine]\nmodel = "{tmp_path}"\nthreads = 2\n[server]\nport = 1\nlog_level = "debug"\n')
    monkeypatch.setenv("QUIRE_PORT", "2")
    monkeypatch.setenv("QUIRE_THREADS", "3")
    serve.run(["--config", str(file), "--threads", "4"])
    assert (served.server.port, served.server.log_level) == (2, "debug")
    assert (served.engine.threads, served.engine.model) == (4, str(tmp_path))


def test_without_a_model_the_demo_is_served(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_model, "demo_model", lambda: tmp_path)
    serve.run([])
    assert served.engine.model == str(tmp_path)
    assert served.engine.name == "quire-demo"


def test_a_missing_demo_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "__file__", str(tmp_path / "quire" / "demo_model.py"))
    with pytest.raises(CheckpointError, match="Name a model: quire serve MODEL"):
        demo_model.demo_model()


def test_unknown_variables_stop_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUIRE_THREDS", "1")
    with pytest.raises(ConfigError, match="QUIRE_THREADS"):
        serve.run([])


def test_an_empty_name_is_no_request_for_the_demo_model(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="MODEL is empty"):
        serve.run([""])
    monkeypatch.setenv("QUIRE_MODEL", "")  # as the compose file passes a variable that is not set
    serve.run([])
    assert served.engine.name == demo_model.NAME
