"""The table of families."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from engine.model.arch import FAMILIES, ArchSpec
from engine.model.names import CheckpointNames


def test_families_are_told_apart() -> None:
    assert len({spec.architecture for spec in FAMILIES}) == len({spec.model_type for spec in FAMILIES}) == len(FAMILIES)


def test_a_family_like_llama_needs_its_names_only() -> None:
    spec = ArchSpec("YiForCausalLM", "yi")
    assert spec.names == CheckpointNames()
    with pytest.raises(FrozenInstanceError):
        spec.qk_norm = True  # type: ignore[misc]


def test_names_of_a_layer() -> None:
    names = CheckpointNames()
    assert names.in_layer(12, names.o_proj) == "model.layers.12.self_attn.o_proj"
