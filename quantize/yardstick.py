"""Measuring as ExLlamaV2's converter does: every block's output error under each of a fixed list of width mixes.

The yardstick that other recipes are held to; section by section what docs/quantization.md says of that converter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.errors import QuantizationError
from engine.model.formats.base import LinearShape
from engine.model.linear import Linear
from engine.model.tensor_layout import TensorLayout
from engine.ops.backend import LinearKernel
from engine.ops.exl2 import layout_bits
from quantize.exl2.allocate import Choices
from quantize.exl2.candidate_sets import ATTENTION, ATTENTION_SETS, MLP, MLP_SETS, Mix
from quantize.exl2.candidates import Option
from quantize.exl2.layout import Group, group_layout
from quantize.exl2.scales import ScaleSearch
from quantize.gptq import quantize_matrix
from quantize.half_layer import HalfLayer, halves
from quantize.heap import return_free_memory
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.source_model import SourceModel

MEASUREMENT_ROWS = 16
LEAST_ACCURACY = 0.1
SMALLEST_ERROR, LARGEST_ERROR = 0.0, 1 - 1e-6


@dataclass(frozen=True, slots=True)
class BlockMeasurement:
    """Implements `Measurement`: one slot per attention or MLP block, errors of its output, inputs of the original."""

    search: ScaleSearch

    def sizes(self, layout: TensorLayout) -> list[Choices]:
        """See `Measurement`: a choice for every block."""
        choices = []
        for layer in layout.layers:
            for modules, sets in ((ATTENTION, ATTENTION_SETS), (MLP, MLP_SETS)):
                shapes = [layer.linears[module] for module in modules]
                choices.append(_choices(shapes, [_option(shapes, mixes, math.nan) for mixes in sets]))
        return choices

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:
        """See `Measurement`.

        Raises:
            QuantizationError: besides what the protocol names, no mix keeps a tenth of some block's output.
        """
        progress.stage("Measuring", len(source.shapes) - 1)
        streams = [source.model.embed(row) for row in rows[:MEASUREMENT_ROWS]]
        choices = []
        for layer in source.model.layers:
            for half, sets in zip(halves(layer), (ATTENTION_SETS, MLP_SETS), strict=True):
                choices.append(_Block(source, half, sets, self.search, progress).measure(streams))
        return choices


class _Block:
    """One half layer, its matrices quantized in every mix that occurs."""

    def __init__(
        self,
        source: SourceModel,
        half: HalfLayer,
        sets: Sequence[tuple[Mix, ...]],
        search: ScaleSearch,
        progress: Progress,
    ) -> None:
        self._source = source
        self._half = half
        self._sets = sets
        self._search = search
        self._progress = progress
        self._linears = (*half.entry, half.exit)

    def measure(self, streams: Sequence[torch.Tensor]) -> Choices:
        """Sizes and errors of the block's options; advances the streams through the unquantized block."""
        entry, exit_moments = InputMoments(self._half.entry[0].prefix), InputMoments(self._half.exit.prefix)
        before = [stream.clone() for stream in streams]
        for stream in streams:
            entry.add(self._half.entry_inputs(stream))
            inputs = self._half.exit_inputs(stream)
            exit_moments.add(inputs)
            self._half.advance(stream, inputs)
        factors = [factor_hessian(entry.hessian(), entry.name)] * len(self._half.entry)
        factors.append(factor_hessian(exit_moments.hessian(), exit_moments.name))
        kernels = [
            self._kernels(linear, factor, {mixes[index] for mixes in self._sets})
            for index, (linear, factor) in enumerate(zip(self._linears, factors, strict=True))
        ]
        shapes = [self._source.shapes[linear.prefix] for linear in self._linears]
        options = [
            _option(
                shapes, mixes, self._error([kernels[index][mix] for index, mix in enumerate(mixes)], before, streams)
            )
            for mixes in self._sets
        ]
        if all(1 - option.error < LEAST_ACCURACY for option in options):
            raise QuantizationError(
                f"No mix of widths keeps a tenth of what {self._half.exit.prefix} puts out. "
                "Check the model's weights, or use another calibration text."
            )
        return _choices(shapes, options)

    def _kernels(self, linear: Linear, factor: HessianFactor, mixes: set[Mix]) -> dict[Mix, LinearKernel]:
        return_free_memory()
        weight, bias = self._source.weight(linear.prefix), self._source.bias(linear.prefix)
        by_groups: dict[tuple[Group, ...], LinearKernel] = {}
        kernels = {}
        for mix in mixes:
            groups = group_layout(linear.in_features, mix)
            if groups not in by_groups:
                quantized = quantize_matrix(weight, factor, groups, self._search).weight
                by_groups[groups] = self._source.model.backend.prepare_dense(quantized.T.contiguous(), bias)
            kernels[mix] = by_groups[groups]
        self._progress.advance(1, linear.prefix)
        return kernels

    def _error(
        self, kernels: Sequence[LinearKernel], before: Sequence[torch.Tensor], after: Sequence[torch.Tensor]
    ) -> float:
        """Mean over rows of ‖y − y₀‖ / ‖y₀‖, y being the residual stream behind the block."""
        own = [linear.kernel for linear in self._linears]
        for linear, kernel in zip(self._linears, kernels, strict=True):
            linear.kernel = kernel
        errors = []
        for stream, wanted in zip(before, after, strict=True):
            output = stream.clone()
            self._half.advance(output, self._half.exit_inputs(stream))
            errors.append(float((output - wanted).norm() / wanted.norm()))
        for linear, kernel in zip(self._linears, own, strict=True):
            linear.kernel = kernel
        return min(max(sum(errors) / len(errors), SMALLEST_ERROR), LARGEST_ERROR)


def _choices(shapes: Sequence[LinearShape], options: Sequence[Option]) -> Choices:
    return Choices(tuple(shape.prefix for shape in shapes), sum(shape.weights for shape in shapes), options)


def _option(shapes: Sequence[LinearShape], mixes: Sequence[Mix], error: float) -> Option:
    layouts = tuple(group_layout(shape.in_features, mix) for shape, mix in zip(shapes, mixes, strict=True))
    bits = sum(layout_bits(groups, shape.out_features) for shape, groups in zip(shapes, layouts, strict=True))
    return Option(layouts, bits, error)
