"""What a loaded engine says about its model."""

from __future__ import annotations

from pathlib import Path

from engine.build import build_engine
from engine.config import EngineConfig
from tests.end_to_end.engine_runs import write_tiny_llama


def test_the_model_is_called_by_its_given_name_or_by_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    write_tiny_llama(directory)
    for given, expected in (("", "tiny"), ("org/model", "org/model")):
        _, model = build_engine(EngineConfig(model=str(directory), name=given, threads=1, kv_cache_tokens=64))
        assert (model.name, model.path) == (expected, str(directory))
