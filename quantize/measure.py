"""How much each matrix matters: what it costs the model to store it with each mix of widths."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from engine.model.linear import Linear
from engine.model.tensor_layout import LayerLayout
from engine.model.transformer import DecoderLayer
from quantize.capture import exchanged
from quantize.divergence import kl_divergence
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import Option, group_rows, lower_hull, matrix_options
from quantize.exl2.estimate import SAMPLED_COLUMNS, estimate_errors
from quantize.exl2.layout import Group
from quantize.exl2.scales import ScaleSearch
from quantize.gptq import quantize_matrix
from quantize.half_layer import HalfLayer, halves, whole_row
from quantize.heap import return_free_memory
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.source_model import SourceModel
from quantize.streamed_model import pass_layer
from quantize.streams import StreamFile
from quantize.work import estimate_work, forward_work

MOMENT_ROWS = 16
PROBE_ROWS = 4
PROBE_GROUP_SIZE = 64
PROBE_WIDTHS = (3, 5)
"""The coarse probe and the fine one."""

LOGIT_POSITIONS = 2048


class Measurement(Protocol):
    """Finds out what each choice of widths would cost a model."""

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:
        """Choices for every matrix of the decoder layers; the model stays as it is.

        Args:
            source: the model.
            rows: int32 [rows, length] calibration tokens.
            progress: is given a stage, and told of the work that is done.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        ...


@dataclass(frozen=True, slots=True)
class SensitivityMeasurement:
    """Implements `Measurement` with a `SensitivityProbe`."""

    search: ScaleSearch

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:
        """See `Measurement`."""
        return SensitivityProbe(source, rows, self.search, progress).measure()


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


class SensitivityProbe:
    """Measures every matrix of a model that otherwise stays as it is.

    The errors of all width mixes of a matrix are estimated from its Hessian. Two forward passes with this matrix alone
    quantized, coarsely and finely, say what an error there does to the model's output, as KL divergence from the
    original; see `DamageCurve`.

    Args:
        source: the model.
        rows: int32 [rows, length] calibration tokens, of which the first few are used.
        search: finds the scales of groups.
        progress: is told of the work that is done; see `work.py`.
    """

    def __init__(self, source: SourceModel, rows: torch.Tensor, search: ScaleSearch, progress: Progress) -> None:
        self._source = source
        self._model = source.model
        self._search = search
        self._progress = progress
        self._streams = [self._model.embed(row) for row in rows[:MOMENT_ROWS]]
        self._probes, length = min(PROBE_ROWS, rows.shape[0]), rows.shape[1]
        per_row = min(length, -(-LOGIT_POSITIONS // self._probes))
        self._positions = torch.linspace(0, length - 1, per_row, device=self._streams[0].device).long()
        self._found: list[_Probed] = []

    def measure(self) -> list[Choices]:
        """Choices for every matrix of the decoder layers, in the order of computation.

        Every layer is read once: what earlier probes have done to the residual stream passes through it together with
        the original rows.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        config, tokens = self._model.config, len(PROBE_WIDTHS) * self._probes * self._streams[0].shape[0]
        passes = [
            forward_work(
                sum(shape.weights for shape in each.linears.values()),
                sum(shape.in_features for shape in each.linears.values()),
                tokens,
            )
            for each in self._layers
        ]
        positions = len(PROBE_WIDTHS) * self._probes * len(self._positions)
        head = forward_work(config.vocab_size * config.hidden_size, config.vocab_size, positions)
        rows = len(self._streams) * self._streams[0].shape[0]
        works = [
            estimate_work(in_features, min(out_features, SAMPLED_COLUMNS), rows)
            for in_features, out_features in self._matrix_shapes
        ]
        matrices = len(works) // len(passes)
        self._progress.stage(
            "Measuring",
            sum(works) + sum((index + 1) * matrices * each for index, each in enumerate(passes)) + head * len(works),
        )
        for layer, work in zip(self._model.layers, passes, strict=True):
            for probed in self._found:
                for probe in probed.probes:
                    pass_layer(layer, probe.streams)
                self._progress.advance(work)
            before = [stream.clone() for stream in self._streams[: self._probes]]
            for half in halves(layer):
                for linear, factor in self._factors(half):
                    self._found.append(self._measure(linear, factor, layer, before))
                    self._progress.advance(works[len(self._found) - 1] + work, linear.prefix)
        divergences = self._divergences(head)
        return [probed.choices(divergence) for probed, divergence in zip(self._found, divergences, strict=True)]

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

    def _measure(
        self, linear: Linear, factor: HessianFactor, layer: DecoderLayer, before: Sequence[torch.Tensor]
    ) -> _Probed:
        """Estimate one matrix of `layer`, and see what the layer makes of the streams `before` with it quantized."""
        return_free_memory()
        weight = self._source.weight(linear.prefix)
        in_features, out_features = weight.shape
        errors = estimate_errors(weight, factor, self._search)
        group_size = max(size for size in errors if size <= PROBE_GROUP_SIZE)
        probes: list[_Probe] = []
        for bits in PROBE_WIDTHS:
            groups = [Group(bits, rows) for rows in group_rows(in_features, group_size)]
            probe = quantize_matrix(weight, factor, groups, self._search).weight
            streams = self._probed_streams(
                linear, probe, layer, before, len(self._found) * len(PROBE_WIDTHS) + len(probes)
            )
            probes.append(_Probe(sum(errors[group_size][bits]), streams))
        return _Probed(linear.prefix, weight.numel(), matrix_options(in_features, out_features, errors), probes)

    def _probed_streams(
        self, linear: Linear, weight: torch.Tensor, layer: DecoderLayer, before: Sequence[torch.Tensor], number: int
    ) -> StreamFile:
        """What `layer` makes of the streams `before` if the matrix is `weight` [K, N]; a file of that number."""
        kernel = self._model.backend.prepare_dense(weight.T.contiguous(), self._source.bias(linear.prefix))
        path = self._source.scratch / f"probe-{number:05}.f32"
        streams = StreamFile(path, len(before), before[0].shape[0], before[0].shape[1], self._model.backend)
        with exchanged(linear, kernel):
            for index, original in enumerate(before):
                stream = original.clone()
                layer.forward(stream, *whole_row(stream))
                streams.write(index, stream)
        return streams

    def _divergences(self, work: int) -> list[list[float]]:
        """Mean KL divergence from the original model at the positions looked at, for each probe of each matrix."""
        output = self._model.output()
        totals = [[0.0] * len(PROBE_WIDTHS) for _ in self._found]
        for row in range(self._probes):
            reference = output.log_probabilities(self._streams[row][self._positions])
            for total, probed in zip(totals, self._found, strict=True):
                for index, probe in enumerate(probed.probes):
                    probabilities = output.log_probabilities(probe.streams.read(row)[self._positions])
                    total[index] += float(kl_divergence(reference, probabilities).mean()) / self._probes
        for probed in self._found:
            for probe in probed.probes:
                probe.streams.remove()
            self._progress.advance(work)
        return totals

    @property
    def _layers(self) -> tuple[LayerLayout, ...]:
        return self._source.layout.layers

    @property
    def _matrix_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the matrices in the order of computation."""
        return [(shape.in_features, shape.out_features) for layer in self._layers for shape in layer.linears.values()]


@dataclass(frozen=True, slots=True)
class _Probe:
    """A matrix quantized in one way: the error estimated for it, and the residual streams behind it."""

    error: float
    streams: StreamFile


@dataclass(frozen=True, slots=True)
class _Probed:
    """What is known of one matrix before the rows have reached the model's output."""

    name: str
    weights: int
    options: list[Option]
    probes: list[_Probe]

    def choices(self, divergences: Sequence[float]) -> Choices:
        """With the divergences its probes caused."""
        coarse, fine = ((probe.error, found) for probe, found in zip(self.probes, divergences, strict=True))
        damage = DamageCurve(coarse, fine)
        options = [replace(option, error=damage(option.error)) for option in self.options]
        return Choices((self.name,), self.weights, lower_hull(options))
