"""How much an error in each weight does to the model's output, from one pass back through the model.

Small changes of the logits z move the distribution p by a KL divergence of ½ δzᵀ F δz, F = diag(p) − p pᵀ being its
Fisher information. A random vector g with E[g gᵀ] = F, carried back to a matrix's outputs by autograd, gives the
gradient G = Xᵀ g of its weights, and a change Δ of these a divergence of ½ E[⟨G, Δ⟩²]: one pass answers for all
matrices (Martens, "New insights and perspectives on the natural gradient method", 2014).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import torch

from engine.errors import QuantizationError
from engine.model.linear import Linear
from quantize.capture import tapping
from quantize.half_layer import HalfLayer
from quantize.hessian import HessianFactor
from quantize.streamed_model import OutputLayer
from quantize.streams import StreamFile

OUTPUT_POSITIONS = 512
"""Positions whose distributions are looked at together."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What errors of a matrix [K, N] cost, in the form GPTQ leaves them.

    GPTQ changes weights by Δ = −UᵀE, U being the Cholesky factor of H⁻¹ and E[r, n] the rounding error of a weight over
    U[r, r]; the entries of E are as good as independent. They cost Σ rows[r] · columns[n] · E[r, n]².

    Attributes:
        rows: float32 [K], in stored order.
        columns: float32 [N], one on average.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    @classmethod
    def of_output(cls, weight: torch.Tensor) -> Sensitivity:
        """Under which `weight` [K, N] costs its plain output error, tr(ΔᵀHΔ)."""
        return cls(*(torch.ones(size, device=weight.device) for size in weight.shape))


class SensitivitySum:
    """Adds up what calibration rows say of one matrix.

    Args:
        factor: of its inputs' Hessian.
        linear: the matrix.
    """

    def __init__(self, linear: Linear, factor: HessianFactor) -> None:
        self._factor = factor
        device = factor.upper.device
        self._rows = torch.zeros(linear.in_features, device=device)
        self._columns = torch.zeros(linear.out_features, device=device)
        self._tokens = 0

    def add(self, whitened: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add a row: inputs times Uᵀ [T, K] in stored order, and the gradient of the outputs [T, N]."""
        squares = (whitened.T @ gradient).square_()  # of U G, which ⟨G, Δ⟩ = −⟨U G, E⟩ asks for
        self._rows += squares.sum(1)
        self._columns += squares.sum(0)
        self._tokens += len(gradient)

    def result(self) -> Sensitivity:
        """What an error costs in KL divergence, as the mean over positions."""
        mean = self._columns.mean()
        columns = self._columns / mean if float(mean) > 0 else torch.ones_like(self._columns)
        return Sensitivity(self._rows / (2 * self._tokens * len(columns)), columns)


def carry_back(
    half: HalfLayer, factors: list[HessianFactor], streams: StreamFile, gradients: StreamFile
) -> list[Sensitivity]:
    """Carry gradients from behind a half layer to before it, and see what they say of its matrices.

    Args:
        half: of a model that autograd can follow.
        factors: of its matrices, entry and exit; equal ones are the same object.
        streams: the residual stream of every row before the half.
        gradients: of the residual stream behind it; changed in place.

    Raises:
        QuantizationError: a gradient is not finite.
    """
    linears = (*half.entry, half.exit)
    sums = [SensitivitySum(linear, factor) for linear, factor in zip(linears, factors, strict=True)]
    for row in range(streams.rows):
        with ExitStack() as stack, torch.enable_grad():
            taps = [stack.enter_context(tapping(linear)) for linear in linears]
            stream = streams.read(row).requires_grad_()
            behind = half.output(stream)
            outputs = [tap.outputs for tap in taps]
            before, *found = _carried(gradients.read(row), behind, [stream, *outputs])
        if not bool(torch.isfinite(before).all()):
            raise QuantizationError(
                f"The gradient at {linears[0].prefix} is not finite in calibration row {row}. "
                "Check the model's weights, or use another calibration text."
            )
        gradients.write(row, before)
        whitened: dict[int, torch.Tensor] = {}
        for tap, factor, gradient, total in zip(taps, factors, found, sums, strict=True):
            if id(factor) not in whitened:
                whitened[id(factor)] = tap.inputs[:, factor.order] @ factor.upper.T
            total.add(whitened[id(factor)], gradient)
    return [each.result() for each in sums]


def output_gradient(output: OutputLayer, stream: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Random [T, H] whose second moments are the Fisher information at a residual stream [T, H] behind all layers.

    Args:
        output: of a model that autograd can follow.
        stream: of one row.
        generator: draws it.
    """
    gradients = []
    for part in torch.split(stream, OUTPUT_POSITIONS):
        with torch.enable_grad():
            behind = part.detach().requires_grad_()
            logarithms = output.log_probabilities(behind)
        gradients.append(_carried(_drawn(logarithms.detach(), generator), logarithms, [behind])[0])
    return torch.cat(gradients)


def _drawn(logarithms: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The random gradient at logarithms of probabilities [T, V]: √p ∘ ξ, ξ being random signs.

    ∂KL/∂z of log p is the identity less p, so that √p ∘ ξ at log p gives √p ∘ ξ − p (√p · ξ) at z.
    """
    drawn = torch.randint(0, 2, logarithms.shape, generator=generator, dtype=torch.int8)
    signs = drawn.to(logarithms.device, torch.float32).mul_(2).sub_(1)
    return logarithms.mul(0.5).exp_().mul_(signs)


def _carried(gradient: torch.Tensor, behind: torch.Tensor, before: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """The gradients of `before`, from that of what was computed from them.

    A gradient that is handed to autograd as such makes torch load 30 MB of symbolic algebra to check its shape.
    """
    with torch.enable_grad():
        return torch.autograd.grad((behind * gradient).sum(), before)
