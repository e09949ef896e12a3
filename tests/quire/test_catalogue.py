"""The models of a server, from the command line and the configuration file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import ConfigError
from quire import catalogue
from quire.arguments import ArgumentParser
from quire.catalogue import catalogue_of
from quire.commands import config as config_command
from quire.configuration import add_server_options, sources_of
from quire.hub import ModelSource
from quire.settings import resolve
from server.config import ServerConfig
from server.models.catalogue import Catalogue


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with directories of models, where the user stands."""
    for name in ("one", "two", "sub/three"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, text: str) -> str:
    (folder / "quire.toml").write_text(text)
    return str(folder / "quire.toml")


def read(*arguments: str) -> Catalogue:
    parser = ArgumentParser("quire serve", "")
    add_server_options(parser)
    parsed = parser.parse(arguments)
    return catalogue_of(parsed, resolve(ServerConfig, sources_of(parsed)).config)


TWO = (
    '[engine]\nthreads = 2\nmax_num_seqs = 5\n[models.a]\nmodel = "one"\nthreads = 3\n[models."org/b"]\nmodel = "two"\n'
)


def test_what_a_table_says_wins_over_the_rest_of_the_file_and_over_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(folder, TWO)
    monkeypatch.setenv("QUIRE_MAX_NUM_SEQS", "6")
    found = read("--config", file, "--block-size", "8")
    assert (found.start, [model.names for model in found.models]) == (None, [("a",), ("org/b",)])
    a, b = (model.configure({}) for model in found.models)
    assert (a.model, a.name, a.threads, a.max_num_seqs, a.block_size) == ("one", "a", 3, 6, 8)
    assert (b.model, b.name, b.threads, b.max_num_seqs, b.block_size) == ("two", "org/b", 2, 6, 8)
    assert read("--config", file, "--threads", "4").models[0].configure({}).threads == 4
    assert found.models[0].configure({"threads": 5, "max_num_seqs": 7}).threads == 5


@pytest.mark.parametrize("given", [["a"], ["--config-model"]])
def test_the_model_to_start_with_may_be_a_declared_one(folder: Path, given: list[str]) -> None:
    text = TWO if given == ["a"] else TWO.replace("[engine]", '[engine]\nmodel = "a"')
    arguments = given if given == ["a"] else []
    found = read(*arguments, "--config", write(folder, text), "--served-model-name", "x")
    assert (found.start, [model.names for model in found.models]) == ("x", [("x", "a"), ("org/b",)])
    assert found.models[0].configure({}).threads == 3


def test_the_model_to_start_with_may_be_another_one(folder: Path) -> None:
    found = read("sub/three", "--config", write(folder, TWO))
    assert (found.start, [model.names for model in found.models]) == ("three", [("three",), ("a",), ("org/b",)])
    started = found.models[0].configure({})
    assert (started.model, started.threads) == ("sub/three", 2)


def test_a_declared_model_may_be_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def find(model: str, revision: str = "") -> ModelSource:
        asked.append((model, revision))
        return ModelSource(folder / "one", model)

    monkeypatch.setattr(catalogue, "find_model", find)
    file = write(folder, '[hub]\nrevision = "no"\n[models.a]\nmodel = "org/x"\nrevision = "4bpw"\n')
    assert read("--config", file).models[0].configure({}).name == "a"
    assert asked == [("org/x", "4bpw")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[models.a]\nmodel = "one"\nthreds = 1', r"\[models.a\] has no setting 'threds'. Did you mean threads\?"),
        ('[models.a]\nmodel = "one"\nport = 1', r"\[models.a\] has no setting 'port'"),
        ('[models.a]\nmodel = "one"\nname = "b"', "leave 'name' out"),
        ("[models.a]\nthreads = 1", r"\[models.a\] must say which model it is"),
        ('[models.a]\nmodel = "one"\nthreads = "x"', r"\[models.a\] threads must be a whole number"),
        ('[models.a]\nmodel = "one"\nthreads = -1', "threads must not be negative"),
        ('[models.a]\nmodel = "nowhere"', r"\[models.a\]: There is no directory nowhere"),
        ("models = 3", r"write \[models.NAME\]"),
        ('[models]\nmodel = "one"', r"write \[models.NAME\]"),
        ('[server]\nserved_model_name = ["x"]\n[models.a]\nmodel = "one"', "served_model_name"),
    ],
)
def test_bad_tables(folder: Path, text: str, message: str) -> None:
    file = write(folder, text)
    with pytest.raises(ConfigError, match=message):
        [model.configure({}) for model in read("--config", file).models]


def test_two_models_cannot_have_one_name(folder: Path) -> None:
    with pytest.raises(ConfigError, match="Two models are called 'a'"):
        read("two", "--config", write(folder, TWO), "--served-model-name", "a")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threds": 1}, r"'settings.threds' is no setting of a model. Did you mean threads\?"),
        ({"model": "/etc"}, "'settings.model' is no setting"),
        ({"name": "x"}, "'settings.name' is no setting"),
        ({"port": 1}, "'settings.port' is no setting"),
        ({"threads": "x"}, "'settings.threads' must be a whole number"),
        ({"threads": [1]}, "'settings.threads' must be a whole number"),
        ({"max_num_seqs": 0}, "max_num_seqs must be between 1 and"),
    ],
)
def test_settings_of_a_load_are_checked_like_all_others(
    folder: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read("one").models[0].configure(settings)


def test_only_what_lies_below_the_folder_of_models_is_there(folder: Path) -> None:
    (folder / "outside").mkdir()
    (folder / "outside" / "config.json").write_text("{}")
    os.symlink(folder / "outside", folder / "sub" / "link")
    (folder / "sub" / "no-model").mkdir()
    (folder / "sub" / "config.json").write_text("{}")
    found = read("--model-dir", "sub", "--threads", "3")
    assert (found.models, found.start) == ((), None)
    assert found.below is not None
    three = found.below("three")
    assert three is not None
    settings = three.configure({"max_num_seqs": 2})
    assert (three.names, settings.name, settings.threads, settings.max_num_seqs) == (("three",), "three", 3, 2)
    assert Path(settings.model) == (folder / "sub" / "three").resolve()
    bad = (
        "..",
        "../outside",
        str(folder / "outside"),
        "link",
        "no-model",
        "nowhere",
        "",
        ".",
        "three/..",
        "three/",
        "./three",
        "no-model/../three",
        str(folder / "sub" / "three"),
        "a\0b",
        "x" * 9999,
    )
    for name in bad:
        assert found.below(name) is None, name[:20]
    assert read("one").below is None


def test_config_show_shows_the_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(folder, TWO)
    assert config_command.run(["show", "--config", file, "--max-num-seqs", "9"]) == 0
    shown = capsys.readouterr().out
    assert f'[models."a"]\nmodel = "one"  # {file} [models.a]\nthreads = 3  # {file} [models.a]\n' in shown
    assert "max_num_seqs = 9  # command line\n" in shown.partition('[models."org/b"]')[2] + "\n"
