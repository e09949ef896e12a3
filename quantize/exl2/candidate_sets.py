"""The mixes of widths that ExLlamaV2's converter chooses between, one row for a whole attention or MLP block."""

from __future__ import annotations

from quantize.exl2.layout import WidthShare

Mix = tuple[WidthShare, ...]


def _mix(widths: str, shares: str, group_sizes: str) -> Mix:
    """`_mix("4/3", ".1/.9", "128")`: one group size for all widths, or one for each."""
    bits = [int(each) for each in widths.split("/")]
    sizes = [int(each) for each in group_sizes.split("/")]
    sizes = sizes * len(bits) if len(sizes) == 1 else sizes
    return tuple(map(WidthShare, bits, (float(each) for each in shares.split("/")), sizes))


def _whole(bits: int, group_size: int) -> Mix:
    return (WidthShare(bits, 1.0, group_size),)


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP = ("gate_proj", "up_proj", "down_proj")
"""Matrices that are chosen together."""

_LOW = _mix("3/2", ".1/.9", "64")
_THREE = _mix("4/3", ".1/.9", "128")
_FOUR = _mix("5/4", ".1/.9", "64")

ATTENTION_SETS: tuple[tuple[Mix, Mix, Mix, Mix], ...] = (
    (_mix("3/2", ".05/.95", "64"),) * 4,
    (_LOW, _LOW, _mix("3/2", ".25/.75", "64"), _LOW),
    (_LOW, _LOW, _THREE, _LOW),
    (_LOW, _LOW, _THREE, _THREE),
    (_THREE,) * 4,
    (_THREE, _THREE, _mix("4/3", ".1/.9", "64"), _THREE),
    (_whole(4, 128),) * 4,
    (_whole(4, 128), _whole(4, 128), _whole(4, 64), _whole(4, 128)),
    (_whole(4, 64), _whole(4, 64), _whole(4, 32), _whole(4, 64)),
    (_whole(4, 32),) * 4,
    (_mix("5/4", ".1/.9", "128"), _mix("5/4", ".1/.9", "128"), _FOUR, _mix("5/4", ".1/.9", "128")),
    (_FOUR, _FOUR, _mix("5/4", ".1/.9", "32"), _FOUR),
    (_FOUR, _FOUR, _whole(5, 64), _FOUR),
    (_mix("5/4", ".1/.9", "32"), _mix("5/4", ".1/.9", "32"), _whole(5, 32), _mix("5/4", ".1/.9", "32")),
    (_mix("6/5", ".1/.9", "128"), _mix("6/5", ".1/.9", "128"), _whole(6, 128), _mix("6/5", ".1/.9", "128")),
    (_mix("6/5", ".1/.9", "32"), _mix("6/5", ".1/.9", "32"), _whole(6, 32), _mix("6/5", ".1/.9", "32")),
    (_whole(6, 128),) * 4,
    (_whole(6, 32), _whole(6, 32), _whole(8, 32), _whole(6, 32)),
    (_whole(8, 128),) * 4,
)
"""For q, k, v and o, by rising size."""

MLP_SETS: tuple[tuple[Mix, Mix, Mix], ...] = (
    (_mix("3/2", ".05/.95", "64"),) * 2 + (_mix("6/3/2", ".05/.2/.75", "32/64/64"),),
    (_LOW, _mix("3/2", ".25/.75", "64"), _mix("6/3/2", ".05/.2/.75", "32/64/64")),
    (_LOW, _mix("3/2", ".3/.7", "64"), _mix("5/3", ".05/.95", "32")),
    (_LOW, _mix("3/2", ".3/.7", "64"), _mix("5/4", ".05/.95", "32")),
    (_THREE, _mix("4/3", ".25/.75", "128"), _mix("8/4/3", ".05/.1/.85", "32/128/128")),
    (_mix("4/3", ".1/.9", "32"), _mix("4/3", ".25/.75", "32"), _mix("8/4/3", ".05/.1/.85", "32")),
    (_mix("4/3", ".1/.9", "32"), _mix("4/3", ".25/.75", "32"), _mix("8/4", ".05/.95", "32/128")),
    (_whole(4, 128), _whole(4, 32), _mix("8/4", ".05/.95", "32/128")),
    (_whole(4, 32), _whole(4, 32), _mix("8/4", ".05/.95", "32")),
    (_mix("5/4", ".1/.9", "128"), _mix("5/4", ".25/.75", "128"), _mix("8/5/4", ".05/.1/.85", "32/128/128")),
    (_mix("5/4", ".1/.9", "32"), _mix("5/4", ".25/.75", "32"), _mix("8/5/4", ".05/.1/.85", "32")),
    (_mix("6/5", ".1/.9", "128"), _mix("6/5", ".25/.75", "128"), _mix("8/6/5", ".05/.1/.85", "32/128/128")),
    (_mix("6/5", ".1/.9", "32"), _mix("6/5", ".25/.75", "32"), _mix("8/6/5", ".05/.1/.85", "32")),
    (_whole(6, 128), _whole(6, 128), _mix("8/6", ".05/.95", "32/128")),
    (_mix("8/6", ".1/.9", "128"), _mix("8/6", ".1/.9", "128"), _mix("8/6", ".15/.85", "128")),
    (_mix("8/6", ".1/.9", "128"), _mix("8/6", ".1/.9", "128"), _whole(8, 128)),
    (_whole(8, 128),) * 3,
)
"""For gate, up and down, by rising size."""
