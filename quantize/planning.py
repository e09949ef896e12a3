"""From a measurement to the widths of every matrix, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.ops.exl2 import ROW_MULTIPLE, layout_bits
from quantize.exl2.allocate import Plan, plan_of
from quantize.exl2.head import head_groups
from quantize.measurement_file import Measured
from quantize.options import QuantizeOptions
from quantize.overrides import allocate_with_overrides, possible_bits
from quantize.recipe import RECIPES
from quantize.source_model import SourceModel

NOTICEABLE = 0.05
"""Bits per weight below what was asked for from which people want to be told."""


@dataclass(frozen=True, slots=True)
class PlannedMatrix:
    """One matrix: stored bits per weight, and how many rows have each width."""

    name: str
    bits_per_weight: float
    rows: dict[int, int]


@dataclass(frozen=True, slots=True)
class SizePlan:
    """What was chosen for one size.

    Attributes:
        bpw_requested: as asked for.
        bpw: bits per weight of the decoder layers' matrices.
        head_bits: as asked for, or about what was chosen.
        head_bpw: bits per weight of the output head.
        counted_bpw: bits per weight of what was to be counted: with `bpw_total`, layers and head together.
        weight_bytes: of everything, about.
        damage: sum of the chosen options' errors in the measurement's own unit: with the default recipe, what the mean
            KL divergence on the calibration text will be, in nats, if errors add up.
        range: fewest and most bits per weight that could be asked for.
        matrices: in model order, the head last.
        warnings: what a person should know.
        plan: groups of every matrix.
    """

    bpw_requested: float
    bpw: float
    head_bits: int
    head_bpw: float
    counted_bpw: float
    weight_bytes: int
    damage: float
    range: tuple[float, float]
    matrices: tuple[PlannedMatrix, ...]
    warnings: tuple[str, ...]
    plan: Plan


def plan_size(options: QuantizeOptions, source: SourceModel, measured: Measured, bpw: float) -> SizePlan:
    """The best widths within `bpw` bits per weight.

    Raises:
        QuantizationError: the budget, or an override, cannot be met.
    """
    recipe, choices = RECIPES[options.recipe], measured.choices
    picked = allocate_with_overrides(choices, recipe.allocate, bpw, options.overrides, options.seed)
    plan = plan_of(choices, picked)
    if not options.bpw_total:
        plan[source.head_name] = head_groups(source.layout.head.in_features, options.head_bits)
    stored = {name: shape.out_features + -shape.out_features % ROW_MULTIPLE for name, shape in source.shapes.items()}
    bits = {name: layout_bits(plan[name], stored[name]) for name in source.shapes}
    weights = {name: source.shapes[name].in_features * stored[name] for name in source.shapes}
    *decoder, head = source.shapes
    counted = [*decoder, head] if options.bpw_total else decoder
    head_bpw = bits[head] / weights[head]
    counted_bpw = sum(bits[name] for name in counted) / sum(weights[name] for name in counted)
    vectors = sum(source.checkpoint.tensor(name).numel() * 2 for name in source.layout.vectors)
    return SizePlan(
        bpw_requested=bpw,
        bpw=sum(bits[name] for name in decoder) / sum(weights[name] for name in decoder),
        head_bits=round(head_bpw) if options.bpw_total else options.head_bits,
        head_bpw=head_bpw,
        counted_bpw=counted_bpw,
        weight_bytes=sum(bits.values()) // 8 + vectors,
        damage=sum(option.error for option in picked),
        range=possible_bits(choices),
        matrices=tuple(PlannedMatrix(name, bits[name] / weights[name], _rows(plan, name)) for name in source.shapes),
        warnings=tuple(_warnings(measured, bpw, counted_bpw)),
        plan=plan,
    )


def _warnings(measured: Measured, requested: float, used: float) -> Iterator[str]:
    if used < requested - NOTICEABLE:
        fewest, most = possible_bits(measured.choices)
        yield (
            f"Of the {requested:g} bits per weight asked for {used:.3f} are used: more would not make the model "
            f"better. Possible are {fewest:.3f} to {most:.3f}."
        )
    if measured.model is None:
        yield (
            "The measurement is from a file of ExLlamaV2, which does not say of which model; whether it is of this one "
            "is yours to know."
        )


def _rows(plan: Plan, name: str) -> dict[int, int]:
    rows: dict[int, int] = {}
    for width, count in plan[name]:
        rows[width] = rows.get(width, 0) + count
    return rows
