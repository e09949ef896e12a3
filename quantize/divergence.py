"""How far one distribution over tokens is from another."""

from __future__ import annotations

import torch


def kl_divergence(reference: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """KL(reference ‖ other) in nats at each position [P], from log-probabilities [P, V] float32; never negative."""
    return (reference.exp() * (reference - other)).sum(-1).clamp_(min=0)
