"""EXL2 arithmetic against the files of the original implementation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from engine.errors import CheckpointError, QuantizationError
from engine.ops.exl2 import (
    RowGroup,
    build_q_groups,
    decode,
    group_scales,
    layout_groups,
    pack_codes,
    pack_scale_codes,
    row_groups,
    stored_bits,
    unpack_codes,
    unpack_scale_codes,
)
from tests.engine.ops.exl2_matrices import random_exl2, same_bits
from tests.engine.ops.golden_matrices import EXL2_GOLDEN, golden_exl2

each_golden = pytest.mark.parametrize("name", EXL2_GOLDEN)


@pytest.fixture
def flushed_denormals() -> Iterator[None]:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormals")
    yield
    torch.set_flush_denormal(False)


def test_every_golden_file_is_used(golden: Path) -> None:
    foreign = ("awq", "gptq")
    assert {path.stem for path in golden.glob("*.safetensors") if not path.stem.startswith(foreign)} == set(EXL2_GOLDEN)


@each_golden
def test_decode_is_bit_exact(golden: Path, name: str) -> None:
    matrix, references, _ = golden_exl2(golden / f"{name}.safetensors")
    assert same_bits(decode(matrix), references["weight"])


def test_decode_keeps_subnormal_scales_when_denormals_are_flushed(golden: Path, flushed_denormals: None) -> None:
    matrix, references, _ = golden_exl2(golden / "b4_tiny_scale.safetensors")
    assert float((matrix.q_scale_max.double() / 256).max()) < 2**-14  # the file is what it says
    assert same_bits(decode(matrix), references["weight"])


@each_golden
def test_codes_unpack_and_repack_to_the_same_bytes(golden: Path, name: str) -> None:
    matrix, references, _ = golden_exl2(golden / f"{name}.safetensors")
    codes = unpack_codes(matrix)
    if "codes" in references:
        assert same_bits(codes, references["codes"])
    assert same_bits(pack_codes(codes, matrix.groups), matrix.q_weight)


@each_golden
def test_scale_codes_and_group_table_repack_to_the_same_bytes(golden: Path, name: str) -> None:
    matrix, _, _ = golden_exl2(golden / f"{name}.safetensors")
    assert same_bits(pack_scale_codes(unpack_scale_codes(matrix.q_scale)), matrix.q_scale)
    assert same_bits(build_q_groups([(group.width, group.rows) for group in matrix.groups]), matrix.q_groups)


@each_golden
def test_groups_are_those_the_quantizer_made(golden: Path, name: str) -> None:
    matrix, _, metadata = golden_exl2(golden / f"{name}.safetensors")
    assert [group.width for group in matrix.groups] == json.loads(metadata["groups"])
    assert sum(group.rows for group in matrix.groups) == int(metadata["in_features"])


@each_golden
def test_stored_bits_agree_with_the_quantizer(golden: Path, name: str) -> None:
    matrix, _, metadata = golden_exl2(golden / f"{name}.safetensors")
    bits_per_weight = stored_bits(matrix) / (matrix.in_features * matrix.stored_outputs)
    if name == "b4_g64_packpad":  # counted before padding there
        assert bits_per_weight == pytest.approx(4 + 4 * 3 / 192 + (3 * (16 + 32) + 32 * 192) / (192 * 96))
    else:
        assert bits_per_weight == pytest.approx(float(metadata["bpw"]), abs=1e-6)


def test_both_intermediate_roundings_happen(golden: Path) -> None:
    matrix, _, _ = golden_exl2(golden / "b4_tiny_scale.safetensors")
    steps = (unpack_scale_codes(matrix.q_scale).double() + 1).square()
    rounded_once = (steps * (matrix.q_scale_max.double() / 256).unsqueeze(-1)).half()
    assert not torch.equal(rounded_once, group_scales(matrix))


def test_a_scale_too_small_for_half_decodes_to_zero() -> None:
    matrix = random_exl2([(4, 32)])
    silent = replace(matrix, q_scale_max=torch.tensor([2.0**-24], dtype=torch.float16))
    assert not decode(silent).any()


def test_widest_and_lowest_code() -> None:
    groups = layout_groups([(8, 32)])
    codes = torch.zeros(32, 32, dtype=torch.uint8)
    codes[1] = 255
    matrix = replace(
        random_exl2([(8, 32)]),
        q_weight=pack_codes(codes, groups),
        q_invperm=torch.arange(32, dtype=torch.int32),
        q_scale=pack_scale_codes(torch.full((1, 32), 15, dtype=torch.uint8)),
        q_scale_max=torch.ones(1, dtype=torch.float16),
    )
    assert decode(matrix)[:2, 0].tolist() == [-128.0, 127.0]


def test_three_bit_codes_straddle_words_as_documented() -> None:
    codes = torch.zeros(32, 1, dtype=torch.uint8)
    codes[10], codes[21] = 7, 7
    words = pack_codes(codes, layout_groups([(3, 32)])).flatten().tolist()
    # code 10: two low bits end word 0, one begins word 1; code 21: one ends word 1, two begin word 2
    assert [word & 0xFFFFFFFF for word in words] == [0b11 << 30, 1 | 1 << 31, 0b11]


def test_group_table_is_unsigned() -> None:
    layout = [(8, 128 * 1024), (8, 32), (8, 32)]  # the second group starts at word row 32768
    table = build_q_groups(layout)
    assert table[3] < 0
    assert [(group.width, group.rows) for group in row_groups(table, 32768 + 16)] == layout


@pytest.mark.parametrize(
    ("table", "word_rows", "fact"),
    [
        ([], 4, "0 entries"),
        ([4, 0, 4], 8, "3 entries"),
        ([4, 4], 8, "starts at word row 4, not at 0"),
        ([7, 0], 7, "group 0 has 7 bits"),
        ([1, 0], 1, "group 0 has 1 bits"),
        ([4, 0, 5, 4], 9, "group 1 has 5 bits after one of 4"),
        ([4, 0, 4, 4, 4, 4], 12, "group 1 starts at word row 4 and ends at 4"),
        ([4, 0, 4, 8], 8, "group 1 starts at word row 8 and ends at 8"),
        ([4, 0, 4, 12], 8, "stay below the 8 rows"),
        ([4, 0, 3, 4], 8, "group 1 has 4 word rows of 3-bit codes"),
        ([4, 0], 3, "group 0 has 3 word rows of 4-bit codes"),
        ([4, 0, 2, 4], 5, "no multiple of 32 rows"),  # 16 rows of 2 bits
    ],
)
def test_a_malformed_group_table_is_refused(table: list[int], word_rows: int, fact: str) -> None:
    with pytest.raises(CheckpointError, match=r"^q_groups: ") as caught:
        row_groups(torch.tensor(table, dtype=torch.int16), word_rows)
    assert fact in str(caught.value)


def test_row_groups_reads_a_table() -> None:
    table = torch.tensor([6, 0, 3, 6, 2, 12], dtype=torch.int16)
    assert row_groups(table, 16) == (RowGroup(6, 0, 0, 32), RowGroup(3, 6, 32, 64), RowGroup(2, 12, 96, 64))


@pytest.mark.parametrize("layout", [[], [(4, 16)], [(4, 0)], [(7, 32)], [(3, 32), (4, 32)], [(8, 262176), (8, 32)]])
def test_a_layout_the_format_does_not_allow_is_refused(layout: list[tuple[int, int]]) -> None:
    with pytest.raises(CheckpointError, match="q_groups"):
        build_q_groups(layout)


def test_codes_that_do_not_fit_are_refused() -> None:
    codes = torch.zeros(64, 32, dtype=torch.uint8)
    codes[40, 3] = 8
    with pytest.raises(QuantizationError, match="8 among rows 32 to 63 does not fit"):
        pack_codes(codes, layout_groups([(4, 32), (3, 32)]))
    with pytest.raises(QuantizationError, match=r"need torch\.uint8"):
        pack_codes(codes, layout_groups([(4, 32)]))
    with pytest.raises(QuantizationError, match=r"need torch\.uint8"):
        pack_codes(codes.int(), layout_groups([(4, 64)]))


def test_scale_codes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(QuantizationError, match="16 does not fit"):
        pack_scale_codes(torch.full((1, 8), 16, dtype=torch.uint8))
    with pytest.raises(QuantizationError, match="a multiple of 8"):
        pack_scale_codes(torch.zeros(1, 12, dtype=torch.uint8))
