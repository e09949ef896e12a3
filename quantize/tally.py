"""Collecting what an evaluation finds at every position."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from quantize.divergence import kl_divergence


@dataclass(frozen=True, slots=True)
class Figures:
    """What an evaluation finds; all but the first and the last are None without a reference.

    Attributes:
        perplexity: exp of the mean negative log-likelihood of each token given those before it in its window.
        reference_perplexity: the same for the reference.
        kl_mean: mean over positions of KL(reference ‖ model) in nats.
        kl_standard_error: its standard error, windows being independent; None for a single window.
        kl_p99: 99th percentile over positions.
        top1_agreement: share of positions where both models find the same token likeliest.
        tokens: predicted tokens.
    """

    perplexity: float
    reference_perplexity: float | None
    kl_mean: float | None
    kl_standard_error: float | None
    kl_p99: float | None
    top1_agreement: float | None
    tokens: int


class Tally:
    """Running figures of a model, and of a reference where there is one."""

    def __init__(self) -> None:
        self.tokens = 0
        self._loss = 0.0
        self._reference_loss = 0.0
        self._agreements = 0
        self._divergences: list[torch.Tensor] = []  # per call of `add`
        self._window_means: list[float] = []
        self._window_start = 0

    def add(self, targets: torch.Tensor, scores: torch.Tensor, reference: torch.Tensor | None) -> None:
        """Take in P positions: the tokens that follow [P], and log-probabilities [P, V] of model and reference."""
        self.tokens += targets.shape[0]
        self._loss -= _gathered(scores, targets)
        if reference is not None:
            self._reference_loss -= _gathered(reference, targets)
            self._agreements += int((scores.argmax(-1) == reference.argmax(-1)).sum())
            self._divergences.append(kl_divergence(reference, scores).cpu())

    def end_window(self) -> None:
        """The positions since the last call are one window."""
        window = self._divergences[self._window_start :]
        if window:
            self._window_means.append(float(torch.cat(window).mean()))
        self._window_start = len(self._divergences)

    @property
    def figures(self) -> Figures:
        """Everything there is to know."""
        return Figures(
            perplexity=self.perplexity,
            reference_perplexity=self.reference_perplexity,
            kl_mean=self.kl_mean,
            kl_standard_error=self.kl_standard_error,
            kl_p99=self.kl_p99,
            top1_agreement=self.top1_agreement,
            tokens=self.tokens,
        )

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood; infinite where it is beyond all numbers."""
        return _exp(self._loss / self.tokens)

    @property
    def reference_perplexity(self) -> float | None:
        """The same of the reference."""
        return _exp(self._reference_loss / self.tokens) if self._divergences else None

    @property
    def kl_mean(self) -> float | None:
        """Mean KL divergence over positions."""
        return float(torch.cat(self._divergences).double().mean()) if self._divergences else None

    @property
    def kl_standard_error(self) -> float | None:
        """Standard error of the mean over windows; None for a single window."""
        if len(self._window_means) < 2:
            return None
        means = torch.tensor(self._window_means, dtype=torch.float64)
        return float(means.std() / math.sqrt(len(means)))

    @property
    def kl_p99(self) -> float | None:
        """99th percentile of the KL divergence over positions."""
        if not self._divergences:
            return None
        divergences = torch.cat(self._divergences)
        return float(divergences.kthvalue(max(1, math.ceil(0.99 * divergences.numel()))).values)

    @property
    def top1_agreement(self) -> float | None:
        """Share of positions where both find the same token likeliest."""
        return self._agreements / self.tokens if self._divergences else None


def _gathered(scores: torch.Tensor, targets: torch.Tensor) -> float:
    return float(scores.gather(1, targets[:, None]).double().sum())


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf
