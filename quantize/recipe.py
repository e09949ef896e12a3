"""How matrices are quantized: what a job holds fixed for all of them."""

from __future__ import annotations

from dataclasses import dataclass

from quantize.exl2.scales import CommonFactorSearch, FreeCodeSearch, ScaleSearch


@dataclass(frozen=True, slots=True)
class Recipe:
    """Choices of the encoder that the format leaves open.

    Attributes:
        search: finds the scales of a group.
        correct_drift: aim at the original model's outputs instead of its weights, so that matrices make good what the
            ones before them spoiled.
        residual_share: fraction of the residual stream's own drift that the matrices writing to it repay; counts only
            with `correct_drift`.
    """

    search: ScaleSearch
    correct_drift: bool
    residual_share: float


PLAIN = Recipe(CommonFactorSearch(), correct_drift=False, residual_share=0.0)
"""As ExLlamaV2 quantizes a matrix whose widths are given: the yardstick that tests hold the default to."""

DEFAULT = Recipe(FreeCodeSearch(), correct_drift=True, residual_share=0.5)
