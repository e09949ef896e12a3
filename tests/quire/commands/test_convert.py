from __future__ import annotations

from pathlib import Path

import pytest

from quire import cli
from quire.commands import convert


def test_convert_refuses_other_forms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["convert", str(tmp_path), "out", "--to", "gguf"]) == 2
    assert "--to must be one of dense" in capsys.readouterr().err


def test_keys_to_ignore_reach_the_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def take(source: Path, out: Path, **options: object) -> dict[str, int]:
        seen.extend([source, out, options["ignore_config_keys"]])
        return {}

    monkeypatch.setattr(convert, "convert_to_dense", take)
    monkeypatch.setenv("QUIRE_IGNORE_CONFIG_KEYS", "a,b")
    assert cli.main(["convert", str(tmp_path), "out"]) == 0
    assert seen == [tmp_path, Path("out"), ("a", "b")]
