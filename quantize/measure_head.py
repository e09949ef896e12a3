"""What each choice of widths for the output head would cost, for jobs whose budget includes it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from quantize.capture import exchanged
from quantize.divergence import kl_divergence
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import group_rows, lower_hull, matrix_options
from quantize.exl2.encode import padded_columns
from quantize.exl2.estimate import estimate_errors
from quantize.exl2.layout import Group
from quantize.exl2.scales import ScaleSearch
from quantize.gptq import quantize_matrix
from quantize.hessian import InputMoments, factor_hessian
from quantize.measure import MEASUREMENT_ROWS
from quantize.progress import Progress
from quantize.sensitivity import Sensitivity
from quantize.source_model import SourceModel

PROBE_GROUP_SIZE = 64
PROBE_WIDTHS = (3, 5)
"""The coarse probe and the fine one."""

LOGIT_POSITIONS = 2048


class DamageCurve:
    """What an error of a matrix does to the model, from two probes: (error, KL divergence), the coarser first.

    Between them, and beyond the coarser, damage follows a power of the error. Errors smaller than the finer probe's do
    damage in proportion: there the divergence is quadratic in the weights, as the error is.
    """

    def __init__(self, coarse: tuple[float, float], fine: tuple[float, float]) -> None:
        self._fine = fine
        self._exponent = 1.0
        if coarse[0] > fine[0] > 0 and coarse[1] > fine[1] > 0:
            self._exponent = math.log(coarse[1] / fine[1]) / math.log(coarse[0] / fine[0])

    def __call__(self, error: float) -> float:
        """The expected KL divergence."""
        reference, damage = self._fine
        if reference <= 0:
            return 0.0
        relative = error / reference
        return damage * (relative**self._exponent if relative > 1 else relative)


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """Measures the head in the unit of `SensitivityMeasurement`, so that all matrices can be compared.

    The head's own quantization changes nothing but the logits, so what it does to them can simply be tried: twice, with
    narrow codes and with wider ones.

    Attributes:
        search: finds the scales of groups.
    """

    search: ScaleSearch

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> Choices:
        """Choices for the head; the model stays as it is.

        Args:
            source: the model.
            rows: int32 [rows, length] calibration tokens, of which the first few are used.
            progress: is given a stage, and told of every layer.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        progress.stage("Measuring the head", source.model.config.num_layers)
        output, moments = source.model.output(), InputMoments(source.head_name)
        streams = source.model.run(source.scratch / "head.f32", rows[:MEASUREMENT_ROWS], progress.advance)
        for row in range(streams.rows):
            moments.add(output.inputs(streams.read(row)))
        inputs = torch.cat([streams.read(row) for row in range(streams.rows)])
        streams.remove()
        inputs = inputs[torch.linspace(0, len(inputs) - 1, min(len(inputs), LOGIT_POSITIONS)).long()]

        weight = source.weight(source.head_name)
        padded = padded_columns(weight)
        factor = factor_hessian(moments.hessian(), moments.name)
        errors = estimate_errors(padded, factor, self.search, Sensitivity.of_output(padded))
        group_size = max(size for size in errors if size <= PROBE_GROUP_SIZE)
        reference = output.log_probabilities(inputs)
        points: list[tuple[float, float]] = []
        for bits in PROBE_WIDTHS:
            groups = [Group(bits, each) for each in group_rows(weight.shape[0], group_size)]
            probe = quantize_matrix(padded, factor, groups, self.search).weight[:, : weight.shape[1]]
            kernel = source.model.backend.prepare_dense(probe.T.contiguous(), source.bias(source.head_name))
            with exchanged(output.head, kernel):
                divergence = float(kl_divergence(reference, output.log_probabilities(inputs)).mean())
            points.append((sum(errors[group_size][bits]), divergence))
        damage = DamageCurve(*points)
        options = matrix_options(padded.shape[0], padded.shape[1], errors)
        priced = [replace(option, error=damage(option.error)) for option in options]
        return Choices((source.head_name,), padded.numel(), lower_hull(priced))
