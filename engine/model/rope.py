"""Rotary position embedding: which angle each position turns each pair of features by."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class LinearScaling:
    """Positions are divided by `factor` (Chen et al., "Extending Context Window of LLMs via Interpolation", 2023)."""

    factor: float

    def apply(self, inverse_frequencies: torch.Tensor) -> torch.Tensor:
        """Scaled inverse frequencies, as given [D / 2]."""
        return inverse_frequencies / self.factor


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1: long waves are stretched by `factor`, short ones kept, those between blended.

    Attributes:
        factor: how much the longest waves are stretched.
        low_freq_factor: waves longer than original_max_positions / low_freq_factor are stretched in full.
        high_freq_factor: waves shorter than original_max_positions / high_freq_factor are kept.
        original_max_positions: context length before stretching.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def apply(self, inverse_frequencies: torch.Tensor) -> torch.Tensor:
        """Scaled inverse frequencies, as given [D / 2]."""
        turns = self.original_max_positions * inverse_frequencies / (2 * math.pi)  # within the original context
        kept = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
        kept = kept.clamp(0.0, 1.0)
        return (1 - kept) * inverse_frequencies / self.factor + kept * inverse_frequencies


@dataclass(frozen=True, slots=True)
class RopeParameters:
    """Base of the frequencies, and how they are stretched beyond the original context."""

    theta: float
    scaling: LinearScaling | Llama3Scaling | None = None


def rotary_tables(
    rope: RopeParameters, head_dim: int, positions: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of every angle, each float32 [positions, head_dim / 2].

    The angle is `position * inverse_frequency` in float32, as in the code the models were trained with: at large
    positions that rounding is part of the model.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim
    inverse_frequencies = 1.0 / (rope.theta**exponents)
    if rope.scaling is not None:
        inverse_frequencies = rope.scaling.apply(inverse_frequencies)
    angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse_frequencies)
    return angles.cos().to(device), angles.sin().to(device)
