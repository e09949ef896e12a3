"""Widths of the output head, which is not part of the bit budget."""

from __future__ import annotations

from quantize.exl2.layout import Group, WidthShare, group_layout

HEAD_SHARES = {
    2: (WidthShare(4, 0.3, 32), WidthShare(2, 0.7, 32)),
    3: (WidthShare(4, 0.15, 32), WidthShare(3, 0.85, 32)),
    4: (WidthShare(6, 0.15, 32), WidthShare(4, 0.85, 32)),
    5: (WidthShare(6, 0.15, 128), WidthShare(5, 0.85, 128)),
    6: (WidthShare(8, 0.15, 128), WidthShare(6, 0.85, 128)),
    8: (WidthShare(8, 1.0, 128),),
}
"""The sets ExLlamaV2 uses, by the number of bits asked for."""


def head_groups(in_features: int, head_bits: int) -> tuple[Group, ...]:
    """Groups of a head with `in_features` inputs; `head_bits` is a key of `HEAD_SHARES`."""
    return group_layout(in_features, HEAD_SHARES[head_bits])
