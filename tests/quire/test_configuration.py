from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from quire import configuration
from quire.configuration import local_engine
from quire.hub import ModelSource


def test_a_fetched_model_keeps_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(configuration, "find_model", lambda model, _: ModelSource(tmp_path / "0123abcd", model))
    engine = local_engine(argparse.Namespace(model="org/model", config=None))
    assert (engine.model, engine.name) == (str(tmp_path / "0123abcd"), "org/model")
