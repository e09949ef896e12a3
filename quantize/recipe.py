"""How a model is quantized: what a job holds fixed for all of its matrices."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.exl2.allocate import Allocator, HullAllocator
from quantize.exl2.anneal import Annealing
from quantize.exl2.scales import CommonFactorSearch, FreeCodeSearch, ScaleSearch
from quantize.measure import Measurement, SensitivityMeasurement
from quantize.measure_head import HeadMeasurement
from quantize.refine import Refinement
from quantize.yardstick import BlockMeasurement


@dataclass(frozen=True, slots=True)
class Recipe:
    """Choices of the encoder that the format leaves open.

    Attributes:
        measure: finds out what each choice of widths would cost.
        allocate: picks the widths within a budget.
        measure_head: the same for the output head, where the budget is to include it; None where that is no choice.
        search: finds the scales of a group.
        refinement: improves what GPTQ found, or None.
        correct_drift: aim at the original model's outputs instead of its weights, so that matrices make good what the
            ones before them spoiled.
        residual_share: fraction of the residual stream's own drift that the matrices writing to it repay; counts only
            with `correct_drift`.
        stale_exit: quantize o and down for the inputs they get before the matrices that feed them are quantized.
    """

    measure: Measurement
    allocate: Allocator
    measure_head: HeadMeasurement | None
    search: ScaleSearch
    refinement: Refinement | None
    correct_drift: bool
    residual_share: float
    stale_exit: bool


EXLLAMAV2 = Recipe(
    measure=BlockMeasurement(CommonFactorSearch()),
    allocate=Annealing(),
    measure_head=None,
    search=CommonFactorSearch(),
    refinement=None,
    correct_drift=False,
    residual_share=0.0,
    stale_exit=True,
)
"""As ExLlamaV2's converter does it, step by step: the yardstick that other recipes are held to."""

DEFAULT = Recipe(
    measure=SensitivityMeasurement(FreeCodeSearch()),
    allocate=HullAllocator(),
    measure_head=HeadMeasurement(FreeCodeSearch()),
    search=FreeCodeSearch(),
    refinement=Refinement(),
    correct_drift=True,
    residual_share=0.5,
    stale_exit=False,
)

RECIPES = {"default": DEFAULT, "exllamav2": EXLLAMAV2}
"""What a job can be asked for by name."""
