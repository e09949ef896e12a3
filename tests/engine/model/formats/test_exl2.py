"""Reading EXL2 layers, and finding whatever is wrong with them."""
# ruff: noqa: ARG005  (the lambdas of the table of corruptions share one signature)

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from engine.errors import CheckpointError
from engine.model.checkpoint import Checkpoint
from engine.model.formats.base import LinearShape
from engine.model.formats.exl2 import Exl2Format, exl2_state, load_exl2
from engine.ops.exl2 import decode, stored_bits
from tests.engine.model.formats.recording_backend import RecordingBackend
from tests.engine.ops.exl2_matrices import layouts, random_exl2, same_bits
from tests.engine.ops.golden_matrices import EXL2_GOLDEN, golden_exl2

PREFIX = "model.layers.0.mlp.up_proj"
State = dict[str, torch.Tensor]


def saved(folder: Path, state: State) -> Checkpoint:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "output.safetensors")
    return Checkpoint.open(folder)


@pytest.mark.parametrize("name", EXL2_GOLDEN)
def test_golden_files_load_and_build(tmp_path: Path, golden: Path, name: str) -> None:
    matrix, references, _ = golden_exl2(golden / f"{name}.safetensors")
    checkpoint = saved(tmp_path, exl2_state(PREFIX, matrix))
    has_bias = matrix.bias is not None
    shape = LinearShape(PREFIX, matrix.in_features, matrix.out_features, bias=has_bias, prescale=matrix.prescale)
    backend = RecordingBackend()
    built = Exl2Format().build(checkpoint, shape, backend)
    (kernel,) = backend.kernels
    assert kernel is built.kernel
    assert kernel.exl2 is not None
    assert same_bits(decode(kernel.exl2), references["weight"])
    assert kernel.out_features == matrix.out_features
    assert built.format == "exl2"
    assert built.stored_bits == stored_bits(matrix)
    assert built.weights == matrix.in_features * matrix.out_features


@given(layouts(max_groups=3), st.integers(1, 100), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=25)
def test_what_is_stored_is_what_is_loaded(
    layout: list[tuple[int, int]], out_features: int, bias: bool, seed: int
) -> None:
    matrix = random_exl2(layout, out_features, seed=seed, bias=bias)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = saved(Path(folder), exl2_state(PREFIX, matrix))
        loaded = load_exl2(checkpoint, LinearShape(PREFIX, matrix.in_features, out_features, bias=bias))
        for field in fields(matrix):
            stored, read = getattr(matrix, field.name), getattr(loaded, field.name)
            assert same_bits(stored, read) if isinstance(stored, torch.Tensor) else stored == read
        names = Exl2Format().tensor_names(checkpoint, PREFIX)
        assert sorted(names) == sorted(checkpoint.names)


class Corruption(NamedTuple):
    """One way to spoil a valid layer, and what the message must contain besides the tensor's name."""

    tensor: str
    spoil: Callable[[torch.Tensor, int], torch.Tensor | None]  # also gets a random number; None removes the tensor
    fact: str


def with_entry(tensor: torch.Tensor, at: int, value: float) -> torch.Tensor:
    spoiled = tensor.clone()
    spoiled.view(-1)[at % tensor.numel()] = value
    return spoiled


def swapped_widths(table: torch.Tensor, _: int) -> torch.Tensor:
    """Groups of 4 and 2 bits become 2 and 4 bits; the starts are moved along so that only the order is wrong."""
    return torch.tensor([2, 0, 4, 2], dtype=torch.int16)


CORRUPTIONS = {
    "no codes": Corruption("q_weight", lambda t, n: None, "missing"),
    "no permutation": Corruption("q_invperm", lambda t, n: None, "missing"),
    "no scale codes": Corruption("q_scale", lambda t, n: None, "missing"),
    "no largest scales": Corruption("q_scale_max", lambda t, n: None, "missing"),
    "no groups": Corruption("q_groups", lambda t, n: None, "missing"),
    "no bias": Corruption("bias", lambda t, n: None, "missing"),
    "codes of another type": Corruption("q_weight", lambda t, n: t.to(torch.int64), "int64"),
    "permutation of another type": Corruption("q_invperm", lambda t, n: t.to(torch.int16), "int16"),
    "scale codes of another type": Corruption("q_scale", lambda t, n: t.to(torch.uint8), "uint8"),
    "largest scales of another type": Corruption("q_scale_max", lambda t, n: t.float(), "float32"),
    "groups of another type": Corruption("q_groups", lambda t, n: t.to(torch.int32), "int32"),
    "bias of another type": Corruption("bias", lambda t, n: t.to(torch.int32), "int32"),
    "codes flat": Corruption("q_weight", lambda t, n: t.flatten(), "shape"),
    "scale codes flat": Corruption("q_scale", lambda t, n: t.flatten(), "shape"),
    "groups as pairs": Corruption("q_groups", lambda t, n: t.reshape(-1, 2), "shape"),
    "bias empty": Corruption("bias", lambda t, n: t[:0], "shape"),
    "columns missing": Corruption("q_weight", lambda t, n: t[:, :-8], "56 columns"),
    "too many columns": Corruption("q_weight", lambda t, n: torch.cat([t, t[:, :32]], 1), "96 columns"),
    "scale columns missing": Corruption("q_scale", lambda t, n: t[:, :-1], "[2, 7]"),
    "scale rows missing": Corruption("q_scale", lambda t, n: t[:-1], "[1, 8]"),
    "largest scale missing": Corruption("q_scale_max", lambda t, n: t[:-1], "1 entries"),
    "largest scale NaN": Corruption("q_scale_max", lambda t, n: with_entry(t, n, float("nan")), "nan"),
    "largest scale infinite": Corruption("q_scale_max", lambda t, n: with_entry(t, n, float("inf")), "inf"),
    "largest scale negative": Corruption("q_scale_max", lambda t, n: with_entry(t, n, -0.5), "-0.5"),
    "bias too short": Corruption("bias", lambda t, n: t[:-1], "63 entries"),
    "bias NaN": Corruption("bias", lambda t, n: with_entry(t, n, float("nan")), "nan"),
    "permutation too short": Corruption("q_invperm", lambda t, n: t[:-1], "95 entries"),
    "permutation beyond": Corruption("q_invperm", lambda t, n: with_entry(t, n, 96), "96"),
    "permutation negative": Corruption("q_invperm", lambda t, n: with_entry(t, n, -1), "-1"),
    "permutation repeats": Corruption("q_invperm", lambda t, n: with_entry(t, n, int(t[n % 96 - 1])), "more than once"),
    "width of 7": Corruption("q_groups", lambda t, n: with_entry(t, 0, 7), "7 bits"),
    "width of 0": Corruption("q_groups", lambda t, n: with_entry(t, 2, 0), "0 bits"),
    "widths rise": Corruption("q_groups", swapped_widths, "4 bits after one of 2"),
    "wrong width": Corruption("q_groups", lambda t, n: with_entry(t, 0, 5), "word rows of 5-bit codes"),
    "late first start": Corruption("q_groups", lambda t, n: with_entry(t, 1, 1), "not at 0"),
    "start repeats": Corruption("q_groups", lambda t, n: with_entry(t, 3, 0), "starts must increase"),
    "start beyond the words": Corruption("q_groups", lambda t, n: with_entry(t, 3, -1 - n % 1000), "below the 8 rows"),
    "start inside a block": Corruption("q_groups", lambda t, n: with_entry(t, 3, 3), "3 word rows of 4-bit"),
    "half a pair": Corruption("q_groups", lambda t, n: t[:-1], "3 entries"),
    "a group left out": Corruption("q_groups", lambda t, n: t[:2], "64 input rows"),
}


@pytest.mark.parametrize("kind", CORRUPTIONS)
@given(number=st.integers(0, 10**6))
@settings(max_examples=6)
def test_any_single_corruption_is_found_and_named(kind: str, number: int) -> None:
    corruption = CORRUPTIONS[kind]
    matrix = random_exl2([(4, 32), (2, 64)], 50, seed=number, bias=True)
    state = exl2_state(PREFIX, matrix)
    name = f"{PREFIX}.{corruption.tensor}"
    spoiled = corruption.spoil(state.pop(name), number)
    if spoiled is not None:
        state[name] = spoiled
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = saved(Path(folder), state)
        with pytest.raises(CheckpointError) as caught:
            load_exl2(checkpoint, LinearShape(PREFIX, 96, 50, bias=True))
    assert name in str(caught.value)
    assert corruption.fact in str(caught.value)


def test_each_corruption_is_of_a_valid_layer(tmp_path: Path) -> None:
    matrix = random_exl2([(4, 32), (2, 64)], 50, bias=True)
    load_exl2(saved(tmp_path, exl2_state(PREFIX, matrix)), LinearShape(PREFIX, 96, 50, bias=True))


@pytest.mark.parametrize(
    ("shape", "facts"),
    [
        (LinearShape(PREFIX, 128, 50, bias=True), ("q_groups", "96 input rows", "128")),
        (LinearShape(PREFIX, 96, 200, bias=True), ("q_weight", "64 columns", "200 outputs", "224")),
        (LinearShape(PREFIX, 96, 65, bias=True), ("q_weight", "64 columns", "65 outputs", "96")),
        (LinearShape(PREFIX, 96, 32, bias=True), ("q_weight", "64 columns", "32 outputs")),
        (LinearShape(PREFIX, 96, 50, bias=False), ("bias", "has no bias")),
    ],
)
def test_a_layer_of_another_shape_than_the_model_asks_for(
    tmp_path: Path, shape: LinearShape, facts: tuple[str, ...]
) -> None:
    checkpoint = saved(tmp_path, exl2_state(PREFIX, random_exl2([(4, 32), (2, 64)], 50, bias=True)))
    with pytest.raises(CheckpointError) as caught:
        load_exl2(checkpoint, shape)
    assert all(fact in str(caught.value) for fact in (PREFIX, "output.safetensors", *facts))


def test_the_permutation_of_old_files_is_known_but_not_used(tmp_path: Path) -> None:
    matrix = random_exl2([(4, 64)])
    state = exl2_state(PREFIX, matrix) | {f"{PREFIX}.q_perm": torch.zeros(64, dtype=torch.int16)}
    checkpoint = saved(tmp_path, state)
    loaded = load_exl2(checkpoint, LinearShape(PREFIX, 64, 32, bias=False))
    assert same_bits(decode(loaded), decode(matrix))
    assert f"{PREFIX}.q_perm" in Exl2Format().tensor_names(checkpoint, PREFIX)


def test_a_scale_of_zero_is_legal(tmp_path: Path) -> None:
    matrix = random_exl2([(4, 64)], largest_scale=0.0)  # a group of nothing but zeros
    loaded = load_exl2(saved(tmp_path, exl2_state(PREFIX, matrix)), LinearShape(PREFIX, 64, 32, bias=False))
    assert not decode(loaded).any()
