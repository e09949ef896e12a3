"""Sequences and logits for the sampling tests."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import torch

from engine.scheduling.sequence import Sequence
from engine.types import GenerationRequest, SamplingParams


def sequence(
    params: SamplingParams,
    *,
    prompt: tuple[int, ...] = (1, 2, 3),
    answer: tuple[int, ...] = (),
    seed: int = 7,
    choice: int = 0,
    name: str = "request",
) -> Sequence:
    """A sequence that has sampled `answer` so far."""
    params = dataclasses.replace(params, max_tokens=None)
    return Sequence(GenerationRequest(name, prompt, params), choice, seed, [*prompt, *answer])


def random_logits(rows: int, vocab: int, *, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    """Normally distributed logits [rows, vocab]."""
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * spread


def as_array(*values: float) -> npt.NDArray[np.float32]:
    """A row of logits."""
    return np.array(values, np.float32)
