"""The solver against ExLlamaV2's own results, and against plain rounding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from engine.model.formats.exl2 import exl2_state
from quantize.exl2.encode import encode
from quantize.exl2.layout import Group, WidthShare, group_layout
from quantize.exl2.scales import CommonFactorSearch
from quantize.gptq import QuantizedMatrix, quantize_matrix, round_to_nearest
from quantize.hessian import InputMoments, factor_hessian
from quantize.recipe import EXLLAMAV2


@pytest.mark.parametrize("name", ["b4_g128_bias", "mix632_oddlast"])
def test_reproduces_the_original_quantizer_bit_for_bit(golden: Path, name: str) -> None:
    with safe_open(golden / f"{name}.safetensors", "pt") as file:
        meta = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - a safetensors file is no mapping
    weight = tensors["orig.weight"].float().T.contiguous()
    sums = InputMoments("linear")
    for row in tensors["calib.x"].chunk(3):
        sums.add(row)
    factor = factor_hessian(sums.hessian(), "linear")
    sizes = json.loads(meta["group_size"])
    shares = [
        WidthShare(bits, share, sizes[str(bits)])
        for bits, share in zip(json.loads(meta["bits"]), json.loads(meta["bits_prop"]), strict=True)
    ]
    groups = group_layout(weight.shape[0], shares)
    assert [group.bits for group in groups] == json.loads(meta["groups"])
    result = quantize_matrix(weight, factor, groups, EXLLAMAV2.search)
    assert torch.equal(result.codes, tensors["ref.codes"])
    assert torch.equal(result.weight, tensors["ref.weight"].float())
    stored = exl2_state("linear", encode(result, tensors.get("linear.bias"), weight.shape[1]))
    assert {name for name in tensors if name.startswith("linear.")} == set(stored)
    for name, tensor in stored.items():
        assert torch.equal(tensor, tensors[name]), name


def _problem(seed: int = 0, rows: int = 128, columns: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(rows, rows, generator=generator) * torch.linspace(0.1, 3, rows)
    inputs = torch.randn(512, rows, generator=generator) @ mix.T
    return torch.randn(rows, columns, generator=generator), inputs


def _output_error(weight: torch.Tensor, inputs: torch.Tensor, result: QuantizedMatrix) -> float:
    return float((inputs @ (result.weight - weight)).norm() / (inputs @ weight).norm())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_passing_errors_on_beats_plain_rounding(bits: int) -> None:
    weight, inputs = _problem()
    factor = factor_hessian(inputs.T @ inputs, "test")
    groups = (Group(bits, 64), Group(bits, 64))
    solved = quantize_matrix(weight, factor, groups, CommonFactorSearch())
    rounded = round_to_nearest(weight, factor, groups, CommonFactorSearch())
    assert _output_error(weight, inputs, solved) < 0.9 * _output_error(weight, inputs, rounded)


def test_a_zero_matrix_stays_zero() -> None:
    _, inputs = _problem()
    factor = factor_hessian(inputs.T @ inputs, "test")
    result = quantize_matrix(torch.zeros(128, 64), factor, (Group(3, 128),), CommonFactorSearch())
    assert torch.equal(result.weight, torch.zeros(128, 64))
    assert bool((result.codes == 4).all())
