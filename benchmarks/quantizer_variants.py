"""Recipes that `bench_quantizer` knows by name: those a job can be asked for, and each lever on its own."""

from __future__ import annotations

from dataclasses import replace

from quantize.recipe import DEFAULT, EXLLAMAV2, RECIPES, Recipe
from quantize.refine import Refinement

VARIANTS: dict[str, Recipe] = {
    **RECIPES,
    "exllamav2+drift": replace(EXLLAMAV2, correct_drift=True),
    "exllamav2+repay": replace(EXLLAMAV2, correct_drift=True, residual_share=0.5),
    "exllamav2+repay+fresh": replace(EXLLAMAV2, correct_drift=True, residual_share=0.5, stale_exit=False),
    "exllamav2+widths": replace(EXLLAMAV2, measure=DEFAULT.measure, allocate=DEFAULT.allocate),
    "default-refine": replace(DEFAULT, refinement=None),
    "default+refine8": replace(DEFAULT, refinement=Refinement(passes=8)),
    "default-repay": replace(DEFAULT, residual_share=0.0),
    "default+full-repay": replace(DEFAULT, residual_share=1.0),
    "default-drift": replace(DEFAULT, correct_drift=False),
    "default-fresh": replace(DEFAULT, stale_exit=True),
}
