"""How much each matrix matters: what it costs the model to store it with each mix of widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from engine.model.linear import Linear
from engine.ops.exl2 import WIDTHS
from quantize.capture import exchanged
from quantize.divergence import kl_divergence
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import group_rows, matrix_options
from quantize.exl2.estimate import estimate_errors
from quantize.exl2.layout import Group
from quantize.exl2.scales import ScaleSearch
from quantize.gptq import quantize_matrix
from quantize.half_layer import HalfLayer, halves, whole_row
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.source_model import SourceModel

MOMENT_ROWS = 16
PROBE_ROWS = 4
PROBE_GROUP_SIZE = 64
LOGIT_POSITIONS = 2048


class Measurement(Protocol):
    """Finds out what each choice of widths would cost a model."""

    def __call__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, progress: Progress
    ) -> list[Choices]:
        """Choices for every matrix of the decoder layers; the model stays as it is.

        Args:
            source: the model.
            rows: int32 [rows, length] calibration tokens.
            bits_per_weight: what will be asked for.
            progress: is told of every finished matrix.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        ...


@dataclass(frozen=True, slots=True)
class SensitivityMeasurement:
    """Implements `Measurement` with a `SensitivityProbe`."""

    search: ScaleSearch

    def __call__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, progress: Progress
    ) -> list[Choices]:
        """See `Measurement`."""
        return SensitivityProbe(source, rows, bits_per_weight, self.search, progress).measure()


class SensitivityProbe:
    """Measures every matrix of a model that otherwise stays as it is.

    The errors of all width mixes of a matrix are estimated from its Hessian. One forward pass with this matrix alone
    quantized says what an error there does to the model's output, as KL divergence from the original. Both together
    give the damage of every option: damage ≈ KL of the probe · error of the option / error of the probe.

    Args:
        source: the model.
        rows: int32 [rows, length] calibration tokens, of which the first few are used.
        bits_per_weight: what will be asked for; matrices are probed with about that width.
        search: finds the scales of groups.
        progress: is told of every finished matrix.
    """

    def __init__(
        self, source: SourceModel, rows: torch.Tensor, bits_per_weight: float, search: ScaleSearch, progress: Progress
    ) -> None:
        self._source = source
        self._model = source.model
        self._search = search
        self._progress = progress
        self._probe_bits = max(bits for bits in WIDTHS if bits <= max(bits_per_weight, min(WIDTHS)))
        self._streams = [self._model.embed(row) for row in rows[:MOMENT_ROWS]]
        probes, length = min(PROBE_ROWS, rows.shape[0]), rows.shape[1]
        per_row = min(length, -(-LOGIT_POSITIONS // probes))
        self._positions = torch.linspace(0, length - 1, per_row, device=self._streams[0].device).long()
        self._reference = self._outputs(0, self._streams[:probes])

    def measure(self) -> list[Choices]:
        """Choices for every matrix of the decoder layers, in the order of computation.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        choices = []
        for index, layer in enumerate(self._model.layers):
            before = [stream.clone() for stream in self._streams[: len(self._reference)]]
            for half in halves(layer):
                for linear, factor in self._factors(half):
                    choices.append(self._measure(linear, factor, index, before))
                    self._progress.advance(1, linear.prefix)
        return choices

    def _factors(self, half: HalfLayer) -> Iterator[tuple[Linear, HessianFactor]]:
        """Each matrix of the half with its factored Hessian; advances the streams through the half."""
        entry, exit_moments = InputMoments(half.entry[0].prefix), InputMoments(half.exit.prefix)
        for stream in self._streams:
            entry.add(half.entry_inputs(stream))
            exit_inputs = half.exit_inputs(stream)
            exit_moments.add(exit_inputs)
            half.advance(stream, exit_inputs)
        factor = factor_hessian(entry.hessian(), entry.name)
        for linear in half.entry:
            yield linear, factor
        yield half.exit, factor_hessian(exit_moments.hessian(), exit_moments.name)

    def _measure(self, linear: Linear, factor: HessianFactor, layer: int, before: Sequence[torch.Tensor]) -> Choices:
        """Estimate and probe one matrix of `layer`, whose inputs are the streams `before`."""
        weight = self._source.weight(linear.prefix)
        in_features, out_features = weight.shape
        errors = estimate_errors(weight, factor, self._search)
        group_size = max(size for size in errors if size <= PROBE_GROUP_SIZE)
        groups = [Group(self._probe_bits, rows) for rows in group_rows(in_features, group_size)]
        probe = quantize_matrix(weight, factor, groups, self._search).weight
        kernel = self._model.backend.prepare_dense(probe.T.contiguous(), self._source.bias(linear.prefix))
        with exchanged(linear, kernel):
            outputs = self._outputs(layer, before)
        divergence = sum(
            float(kl_divergence(reference, output).mean())
            for reference, output in zip(self._reference, outputs, strict=True)
        )
        estimated = sum(errors[group_size][self._probe_bits])
        return Choices(
            names=(linear.prefix,),
            weights=weight.numel(),
            sensitivity=divergence / len(outputs) / estimated if estimated > 0 else 0.0,
            options=matrix_options(in_features, out_features, errors),
        )

    def _outputs(self, first_layer: int, streams: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Log-probabilities [P, V] of each row at the positions looked at, from the residual streams before a layer."""
        outputs = []
        for before in streams:
            stream = before.clone()
            for layer in self._model.layers[first_layer:]:
                layer.forward(stream, *whole_row(stream))
            outputs.append(self._model.logits(stream[self._positions]).log_softmax(-1))
        return outputs
