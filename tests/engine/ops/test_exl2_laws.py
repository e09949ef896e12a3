"""Laws of EXL2 packing and decoding, for random layouts and sizes."""

from __future__ import annotations

import struct

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ops.exl2 import (
    Exl2Tensors,
    build_q_groups,
    decode,
    layout_groups,
    pack_codes,
    pack_scale_codes,
    row_groups,
    stored_bits,
    unpack_codes,
    unpack_scale_codes,
)
from tests.engine.ops.exl2_matrices import layouts, random_codes, random_exl2, same_bits

seeds = st.integers(0, 2**31)
columns = st.integers(1, 4).map(lambda blocks: 32 * blocks)


def to_half(value: float) -> float:
    """Nearest half, ties to even, subnormals kept."""
    (rounded,) = struct.unpack("<e", struct.pack("<e", value))
    return float(rounded)


def decode_one(matrix: Exl2Tensors, feature: int, column: int) -> float:
    """One weight, straight from the words: the format document in plain Python numbers."""
    table = [value & 0xFFFF for value in matrix.q_groups.tolist()] + [0, matrix.q_weight.shape[0]]
    row = int(matrix.q_invperm[feature])
    group = 0
    while row >= (rows := (table[2 * group + 3] - table[2 * group + 1]) * 32 // table[2 * group]):
        row -= rows
        group += 1
    width, first_word, end = table[2 * group], table[2 * group + 1], table[2 * group + 3]
    stream = 0
    for word in range(end - 1, first_word - 1, -1):
        stream = stream << 32 | (int(matrix.q_weight[word, column]) & 0xFFFFFFFF)
    code = stream >> (row * width) & ((1 << width) - 1)
    nibble = (int(matrix.q_scale[group, column // 8]) & 0xFFFFFFFF) >> (4 * (column % 8)) & 15
    unit = to_half(float(matrix.q_scale_max[group]) * matrix.prescale / 256)
    return to_half((code - 2 ** (width - 1)) * to_half((nibble + 1) ** 2 * unit))


@given(layouts(), columns, seeds)
@settings(max_examples=40)
def test_unpack_undoes_pack(layout: list[tuple[int, int]], columns: int, seed: int) -> None:
    codes = random_codes(layout, columns, torch.Generator().manual_seed(seed))
    packed = pack_codes(codes, layout_groups(layout))
    assert packed.dtype == torch.int32
    assert packed.shape == (sum(width * rows for width, rows in layout) // 32, columns)
    assert torch.equal(unpack_codes(random_exl2_with(layout, packed)), codes)


def random_exl2_with(layout: list[tuple[int, int]], q_weight: torch.Tensor) -> Exl2Tensors:
    """A matrix of which only the codes and groups matter."""
    inputs = sum(rows for _, rows in layout)
    nothing = torch.empty(0)
    invperm = torch.arange(inputs, dtype=torch.int32)
    return Exl2Tensors(q_weight, invperm, nothing, nothing, build_q_groups(layout), None, q_weight.shape[1])


@given(layouts(), seeds)
@settings(max_examples=40)
def test_pack_undoes_unpack(layout: list[tuple[int, int]], seed: int) -> None:
    word_rows = sum(width * rows for width, rows in layout) // 32
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(-(2**31), 2**31, (word_rows, 32), generator=generator).to(torch.int32)
    assert torch.equal(pack_codes(unpack_codes(random_exl2_with(layout, words)), layout_groups(layout)), words)


@given(st.integers(1, 6), columns, seeds)
@settings(max_examples=40)
def test_scale_codes_round_trip(groups: int, columns: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 16, (groups, columns), generator=generator, dtype=torch.uint8)
    assert torch.equal(unpack_scale_codes(pack_scale_codes(codes)), codes)


@given(layouts())
@settings(max_examples=40)
def test_a_layout_survives_its_table(layout: list[tuple[int, int]]) -> None:
    word_rows = sum(width * rows for width, rows in layout) // 32
    groups = row_groups(build_q_groups(layout), word_rows)
    assert [(group.width, group.rows) for group in groups] == layout
    assert groups[-1].word_slice.stop == word_rows


@given(
    layouts(max_groups=3, max_rows=64),
    seeds,
    st.sampled_from([1.0, 2.0**-6, 2.0**-13]),
    st.sampled_from([1.0, 0.25, 0.2213]),
    st.data(),
)
@settings(max_examples=40)
def test_decode_agrees_with_plain_python(
    layout: list[tuple[int, int]], seed: int, largest_scale: float, prescale: float, data: st.DataObject
) -> None:
    matrix = random_exl2(layout, 40, seed=seed, largest_scale=largest_scale, prescale=prescale)
    weight = decode(matrix)
    assert weight.shape == (matrix.in_features, 64)
    for feature in range(0, matrix.in_features, 7):
        column = data.draw(st.integers(0, 63))
        assert float(weight[feature, column]) == decode_one(matrix, feature, column)


@given(layouts(), seeds)
@settings(max_examples=20)
def test_permuting_inputs_only_permutes_rows(layout: list[tuple[int, int]], seed: int) -> None:
    matrix = random_exl2(layout, seed=seed)
    inputs = matrix.in_features
    identity = torch.arange(inputs, dtype=torch.int32)
    plain = Exl2Tensors(
        matrix.q_weight, identity, matrix.q_scale, matrix.q_scale_max, matrix.q_groups, None, matrix.out_features
    )
    assert same_bits(decode(matrix), decode(plain)[matrix.q_invperm.long()])


@given(layouts(), columns)
@settings(max_examples=40)
def test_stored_bits_is_the_size_of_the_tensors_up_to_the_table(layout: list[tuple[int, int]], columns: int) -> None:
    matrix = random_exl2(layout, columns)
    tensors = (matrix.q_weight, matrix.q_invperm, matrix.q_scale, matrix.q_scale_max, matrix.q_groups)
    assert stored_bits(matrix) == 8 * sum(tensor.nbytes for tensor in tensors)
