"""A model is known by its weights, however they are stored."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from engine.model.checkpoint import Checkpoint
from quantize.digest import model_identity


def _identity(directory: Path, *files: dict[str, torch.Tensor]) -> str:
    directory.mkdir()
    for index, tensors in enumerate(files):
        save_file(tensors, directory / f"{index}.safetensors")
    return model_identity(Checkpoint.open(directory))


def test_a_model_is_known_by_names_types_shapes_and_values(tmp_path: Path) -> None:
    large = torch.randn(300, 400, generator=torch.Generator().manual_seed(0))
    small = torch.tensor([1, 2], dtype=torch.uint8)
    known = _identity(tmp_path / "one", {"large": large, "small": small})
    assert _identity(tmp_path / "two", {"small": small}, {"large": large}) == known
    others = (
        {"large": large, "other": small},
        {"large": large.half(), "small": small},
        {"large": large.view(400, 300), "small": small},
        {"large": large * 1.001, "small": small},
        {"large": large, "small": small + 1},
    )
    found = {_identity(tmp_path / f"other{index}", each) for index, each in enumerate(others)}
    assert len(found) == len(others)
    assert known not in found
