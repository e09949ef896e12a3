"""What `bench_quantizer` knows by name: the recipes a job can be asked for, and each lever on its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.plain_gptq import PLAIN_GPTQ
from quantize.recipe import DEFAULT, EXLLAMAV2, RECIPES, Recipe
from quantize.refine import Refinement

TUNING_STEPS = 100


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to quantize.

    Attributes:
        recipe: how the matrices are quantized.
        tune: steps of tuning afterwards.
    """

    recipe: Recipe
    tune: int = 0


VARIANTS: dict[str, Variant] = {
    **{name: Variant(recipe) for name, recipe in RECIPES.items()},
    "gptq": Variant(PLAIN_GPTQ),
    "default+tune": Variant(DEFAULT, TUNING_STEPS),
    "exllamav2+drift": Variant(replace(EXLLAMAV2, correct_drift=True)),
    "exllamav2+repay": Variant(replace(EXLLAMAV2, correct_drift=True, residual_share=0.5)),
    "exllamav2+repay+fresh": Variant(replace(EXLLAMAV2, correct_drift=True, residual_share=0.5, stale_exit=False)),
    "exllamav2+widths": Variant(replace(EXLLAMAV2, measure=DEFAULT.measure, allocate=DEFAULT.allocate)),
    "default-refine": Variant(replace(DEFAULT, refinement=None)),
    "default+refine8": Variant(replace(DEFAULT, refinement=Refinement(passes=8))),
    "default-repay": Variant(replace(DEFAULT, residual_share=0.0)),
    "default+full-repay": Variant(replace(DEFAULT, residual_share=1.0)),
    "default-drift": Variant(replace(DEFAULT, correct_drift=False)),
    "default-fresh": Variant(replace(DEFAULT, stale_exit=True)),
}
