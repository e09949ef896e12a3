from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from engine.errors import ConfigError
from quire.commands import config
from quire.configuration import TABLES

PAGE = Path(__file__).resolve().parents[3] / "docs" / "configuration.md"


def test_shows_what_is_set_where_and_hides_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "quire.toml"
    file.write_text('[hub]\nrevision = "4.0bpw"\n[server]\nport = 1\nssl_keyfile_password = "secret2"\n')
    monkeypatch.setenv("QUIRE_API_KEY", "secret1")
    assert config.run(["show", "--config", str(file), "a model", "--port", "9", "--served-model-name", "a,b"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "[engine]",
        'model = "a model"  # command line',
        "[server]",
        "port = 9  # command line",
        'served_model_name = ["a", "b"]  # command line',
        'api_key = "(hidden)"  # environment',
        f'ssl_keyfile_password = "(hidden)"  # {file}',
        "[hub]",
        f'revision = "4.0bpw"  # {file}',
    ]


def test_resolved_shows_every_setting_as_a_configuration_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.run(["show", "--resolved", "--no-prefix-caching"]) == 0
    text = capsys.readouterr().out
    assert "prefix_caching = false  # command line" in text
    assert "port = 8000  # default" in text
    shown = {title: set(table) for title, table in tomllib.loads(text).items()}
    assert shown == {title: {each.name for each in fields(table)} for title, table in TABLES.items()}


def test_nothing_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.run(["show"]) == 0
    out, err = capsys.readouterr()
    assert not out
    assert "--resolved" in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["shwo"], "choose from"),
        (["show", "--prot", "1"], "--port"),
        (["show", "--port", "x"], "--port must be"),
        (["show", "--host", "0.0.0.0"], "--api-key"),
        (["docs", "--resolved"], "Unknown option"),
    ],
)
def test_refuses_what_serve_would_refuse(arguments: list[str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        config.run(arguments)


def test_the_page_of_settings_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert config.run(["docs"]) == 0
    page = capsys.readouterr().out
    assert PAGE.read_text(encoding="utf-8") == page, "run: quire config docs > docs/configuration.md"
    assert "| `port` | `--port`, `QUIRE_PORT` | whole number | `8000` | port to listen on; 0 picks a free one |" in page
    assert "`--no-prefix-caching`" in page
