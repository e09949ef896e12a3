"""Tensors that are missing are blamed on the file that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.model.missing_files import reason_of_absence

MISSING = ["model.layers.1.mlp.up_proj.*", "model.norm.weight"]


def _index(directory: Path, files: object) -> None:
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def test_the_file_that_the_index_names_is_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    _index(
        tmp_path,
        {
            "model.embed_tokens.weight": "elsewhere.safetensors",
            "model.layers.1.mlp.up_proj.weight": "b.safetensors",
            "model.norm.weight": "a.safetensors",
        },
    )
    assert reason_of_absence(tmp_path, MISSING) == (
        "the weights are not complete, b.safetensors is missing; fetch it again"
    )


def test_a_file_that_lacks_what_the_index_promises_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").touch()
    _index(tmp_path, {"model.norm.weight": "a.safetensors"})
    assert reason_of_absence(tmp_path, MISSING) == (
        "by its index model.norm.weight is in a.safetensors, but that file has not got it; fetch both again"
    )


def test_without_an_index_the_numbers_tell(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / f"model-{number:05}-of-00004.safetensors").touch()
    reason = reason_of_absence(tmp_path, MISSING)
    assert "model-00002-of-00004.safetensors, model-00004-of-00004.safetensors is missing" in reason
    (tmp_path / "model-00001-of-00099.safetensors").touch()
    assert "and 96 more" in reason_of_absence(tmp_path, MISSING)


@pytest.mark.parametrize("content", ["[]", "{", '{"weight_map": 1}', '{"weight_map": {"model.norm.weight": 1}}', "{}"])
def test_an_index_of_no_use_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(content)
    (tmp_path / "a.safetensors").touch()
    assert reason_of_absence(tmp_path, MISSING) == ""
