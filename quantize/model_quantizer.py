"""Quantizing a model half layer by half layer, every one on the inputs that the quantized ones before it produce."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from engine.model.embedding import Embedding
from engine.model.formats.exl2 import exl2_state
from engine.model.linear import Linear
from engine.ops.backend import LinearKernel
from engine.ops.exl2 import layout_bits
from quantize.digest import weight_digest
from quantize.exl2.encode import encode, padded_columns
from quantize.exl2.layout import Group
from quantize.gptq import QuantizedMatrix, quantize_matrix, round_to_nearest
from quantize.half_layer import HalfLayer, halves
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.progress import Progress
from quantize.recipe import Recipe
from quantize.report import MatrixReport
from quantize.source_model import SourceModel

Tensors = Iterator[tuple[str, torch.Tensor]]

LARGEST_SOLVED_MATRIX = 10**9
"""Weights beyond which a head is rounded to nearest: solving it would take longer than the rest of the model."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The residual stream of every calibration row [T, H]: behind quantized matrices, and of the original model."""

    quantized: list[torch.Tensor]
    original: list[torch.Tensor]


class ModelQuantizer:
    """Quantizes a model and hands out its tensors as they become ready.

    Args:
        source: the model; it is changed into the quantized one as it goes.
        rows: int32 [rows, length] calibration tokens.
        plan: groups of every matrix.
        recipe: how to quantize.
        progress: is told of every finished matrix.

    Attributes:
        reports: one entry for each matrix done so far.
        digests: SHA-256 of each matrix as a reader must decode it: float16 [K, N], feature order.
    """

    def __init__(
        self,
        source: SourceModel,
        rows: torch.Tensor,
        plan: Mapping[str, tuple[Group, ...]],
        recipe: Recipe,
        progress: Progress,
    ) -> None:
        self._source = source
        self._rows = rows
        self._plan = plan
        self._recipe = recipe
        self._progress = progress
        self.reports: list[MatrixReport] = []
        self.digests: dict[str, str] = {}

    def tensors(self) -> Tensors:
        """Every tensor of the quantized checkpoint in model order; drawing them does the work.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        source, model = self._source, self._source.model
        names = model.config.spec.names
        embedding = source.checkpoint.tensor(source.layout.embedding).half()
        yield f"{names.embedding}.weight", embedding
        streams = self._embed(embedding)
        for layer, layout in zip(model.layers, source.layout.layers, strict=True):
            yield from source.vectors(name for name, _ in layout.norms.values())
            for half in halves(layer):
                yield from self._quantize_half(half, streams)
        yield from source.vectors(iter([source.layout.final_norm]))
        yield from self._quantize_head(streams)

    def _embed(self, embedding: torch.Tensor) -> Streams:
        """The streams before the first layer. The quantized model's embedding is rounded to half precision."""
        model = self._source.model
        original = [model.embed(row) for row in self._rows]
        model.embedding = Embedding(model.backend, embedding.to(model.backend.device))
        return Streams([model.embed(row) for row in self._rows], original)

    def _quantize_half(self, half: HalfLayer, streams: Streams) -> Tensors:
        """Quantize the entry matrices, then the exit matrix on what they feed it; advances the streams."""
        entry = InputMoments(half.entry[0].prefix)
        for quantized, original in zip(streams.quantized, streams.original, strict=True):
            entry.add(half.entry_inputs(quantized), self._drifted(half.entry_inputs(original)))
        # the original rows must pass the half while its entry still is the original one
        original_inputs = [half.exit_inputs(stream) for stream in streams.original]
        exit_inputs = [half.exit_inputs(stream) for stream in streams.quantized] if self._recipe.stale_exit else []
        factor = factor_hessian(entry.hessian(), entry.name)
        for linear in half.entry:
            yield from self._quantize(linear, entry, factor)

        exit_inputs = exit_inputs or [half.exit_inputs(stream) for stream in streams.quantized]
        moments = InputMoments(half.exit.prefix)
        drifts = zip(streams.original, streams.quantized, strict=True)
        for inputs, original, (ahead, behind) in zip(exit_inputs, original_inputs, drifts, strict=True):
            moments.add(inputs, self._drifted(original), self._drifted(ahead - behind))
        for stream, inputs in zip(streams.original, original_inputs, strict=True):
            half.advance(stream, inputs)
        yield from self._quantize(half.exit, moments, factor_hessian(moments.hessian(), half.exit.prefix))
        for stream, inputs in zip(streams.quantized, exit_inputs, strict=True):
            half.advance(stream, half.exit_inputs(stream) if self._recipe.stale_exit else inputs)

    def _quantize_head(self, streams: Streams) -> Tensors:
        model = self._source.model
        moments = InputMoments(model.head.prefix)
        normed = [torch.empty_like(streams.quantized[0]) for _ in range(2)]
        for quantized, original in zip(streams.quantized, streams.original, strict=True):
            model.final_norm.forward(quantized, normed[0])
            model.final_norm.forward(original, normed[1])
            moments.add(normed[0], self._drifted(normed[1]))
        yield from self._quantize(model.head, moments, factor_hessian(moments.hessian(), model.head.prefix))

    def _drifted(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """What is known of the original model, if the recipe makes use of it."""
        return tensor if self._recipe.correct_drift else None

    def _quantize(self, linear: Linear, moments: InputMoments, factor: HessianFactor) -> Tensors:
        """Quantize one matrix, let the model compute with the result from now on, and give out its tensors."""
        source, name = self._source, linear.prefix
        weight, bias = source.weight(name), source.bias(name)
        target = padded_columns(moments.target(weight, factor.damping, self._recipe.residual_share))
        solve = round_to_nearest if weight.numel() > LARGEST_SOLVED_MATRIX else quantize_matrix
        result = solve(target, factor, self._plan[name], self._recipe.search)
        self._report(name, target, result, moments, factor)
        linear.kernel = self._kernel(result, bias, weight.shape[1])
        self._progress.advance(1, name)
        yield from exl2_state(name, encode(result, bias, weight.shape[1])).items()

    def _kernel(self, result: QuantizedMatrix, bias: torch.Tensor | None, out_features: int) -> LinearKernel:
        return self._source.model.backend.prepare_dense(result.weight[:, :out_features].T.contiguous(), bias)

    def _report(
        self,
        name: str,
        target: torch.Tensor,
        result: QuantizedMatrix,
        moments: InputMoments,
        factor: HessianFactor,
    ) -> None:
        self.reports.append(
            MatrixReport(
                name=name,
                in_features=target.shape[0],
                out_features=target.shape[1],
                groups=result.groups,
                bits_per_weight=layout_bits(result.groups, target.shape[1]) / target.numel(),
                error=moments.relative_error(target, result.weight),
                damping_steps=factor.damping_steps,
            )
        )
        self.digests[name] = weight_digest(result.weight.half())
