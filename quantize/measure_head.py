"""What each choice of widths for the output head would cost, for jobs whose budget includes it."""

from __future__ import annotations

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
from quantize.measure import LOGIT_POSITIONS, MOMENT_ROWS, PROBE_GROUP_SIZE, PROBE_WIDTHS, DamageCurve
from quantize.progress import Progress
from quantize.source_model import SourceModel


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """Measures the head as `SensitivityProbe` measures the other matrices: in the same unit, so they can be compared.

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
        streams = source.model.run(source.scratch / "head.f32", rows[:MOMENT_ROWS], progress.advance)
        for row in range(streams.rows):
            moments.add(output.inputs(streams.read(row)))
        inputs = torch.cat([streams.read(row) for row in range(streams.rows)])
        streams.remove()
        inputs = inputs[torch.linspace(0, len(inputs) - 1, min(len(inputs), LOGIT_POSITIONS)).long()]

        weight = source.weight(source.head_name)
        padded = padded_columns(weight)
        factor = factor_hessian(moments.hessian(), moments.name)
        errors = estimate_errors(padded, factor, self.search)
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
