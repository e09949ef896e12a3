"""The tile layout: nothing is lost in it, and everything stands where its drawing says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ops.exl2 import WIDTHS, unpack_codes, unpack_scale_codes
from engine.ops.exl2_tiles import PARTS, pack_scales, pack_tiles, scale_units, tile_table, unpack_tiles
from tests.engine.ops.exl2_matrices import layouts, random_exl2

LOW_BITS = {2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8}


@settings(max_examples=40)
@given(layout=layouts(), out_features=st.integers(1, 300), seed=st.integers(0, 1 << 30))
def test_unpacking_gives_back_what_was_packed(layout: list[tuple[int, int]], out_features: int, seed: int) -> None:
    tensors = random_exl2(layout, out_features, seed=seed)
    tiles = pack_tiles(tensors)
    assert tiles.shape == (-(-out_features // 128), tensors.q_weight.shape[0], 128)
    assert torch.equal(unpack_tiles(tiles, tensors.groups, tensors.stored_outputs), tensors.q_weight)


def test_a_large_matrix_is_packed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = random_exl2([(5, 64), (2, 32)], 400, seed=1)
    whole = pack_tiles(tensors)
    monkeypatch.setattr("engine.ops.exl2_tiles.CODES_AT_ONCE", 2 * 128 * 96)
    assert torch.equal(pack_tiles(tensors), whole)


def bits(word: torch.Tensor, first: int, count: int) -> int:
    return (int(word) >> first) & ((1 << count) - 1)


def test_the_widths_are_cut_as_the_format_has_them() -> None:
    assert set(PARTS) == set(WIDTHS)
    assert {width: parts.low for width, parts in PARTS.items()} == LOW_BITS
    assert all(parts.width == width for width, parts in PARTS.items())


@pytest.mark.parametrize("width", WIDTHS)
def test_codes_stand_where_the_drawing_says(width: int) -> None:
    tensors = random_exl2([(width, 64)], 256, seed=width)
    codes = unpack_codes(tensors)
    tiles = pack_tiles(tensors).reshape(2, 2, width, 32, 4)
    low, high = LOW_BITS[width], width - LOW_BITS[width]
    for row, column in zip(torch.randint(64, (200,)).tolist(), torch.randint(256, (200,)).tolist(), strict=True):
        k, s, t, half = row % 32 // 16, row % 16 // 8, row % 8 // 2, row % 2
        m, d, g = column % 128 // 16, column % 16 // 8, column % 8
        pair = 8 * m + 4 * k + 2 * s + d
        planes = tiles[column // 128, row // 32, :, 4 * g + t]
        word, place = divmod(pair, 16 // low)
        value = bits(planes[word // 4, word % 4], low * place + 16 * half, low)
        if high:
            word, place = divmod(pair, 16 // high)
            byte, field = divmod(place, 8 // low)
            apart = low // high
            bit = high * (byte % apart) + 8 * (byte // apart) + low * field
            value |= bits(planes[low + word // 4, word % 4], bit + 16 * half, high) << low
        assert value == codes[row, column]


def test_scales_stand_where_the_drawing_says() -> None:
    tensors = random_exl2([(4, 32), (3, 96), (3, 32)], 160, seed=3, prescale=0.3)
    records = pack_scales(tensors)
    codes = unpack_scale_codes(tensors.q_scale)
    assert records.shape == (2, 3, 20)
    for group in range(3):
        for column in range(160):
            m, d, g = column % 128 // 16, column % 16 // 8, column % 8
            word = records[column // 128, group, 2 * g + m // 4]
            assert bits(word, 4 * (m % 4) + 16 * d, 4) == codes[group, column]
    units = records[..., 16].contiguous().view(torch.float16).reshape(2, 3, 2)
    assert torch.equal(units, scale_units(tensors).reshape(1, 3, 1).expand(2, 3, 2))
    assert not records[..., 17:].any()


def test_the_tile_table_follows_the_groups() -> None:
    tensors = random_exl2([(6, 64), (2, 32)], 32)
    assert tile_table(tensors.groups) == [(0, 0, 6), (6, 0, 6), (12, 1, 2)]
