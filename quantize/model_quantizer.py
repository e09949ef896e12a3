"""Quantizing a model half layer by half layer, every one on the inputs that the quantized ones before it produce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.model.formats.exl2 import exl2_state
from engine.model.linear import Linear
from engine.ops.backend import Backend, LinearKernel
from engine.ops.exl2 import layout_bits
from quantize.digest import weight_digest
from quantize.exl2.encode import encode, padded_columns
from quantize.exl2.layout import Group
from quantize.gptq import QuantizedMatrix, quantize_matrix, round_to_nearest
from quantize.half_layer import HalfLayer, halves
from quantize.heap import return_free_memory
from quantize.hessian import HessianFactor, InputMoments, factor_hessian
from quantize.matrix_report import MatrixReport
from quantize.progress import Progress
from quantize.recipe import Recipe
from quantize.source_model import SourceModel
from quantize.streams import StreamFile
from quantize.work import matrix_work

LARGEST_SOLVED_MATRIX = 10**9
"""Weights beyond which a head is rounded to nearest: solving it would take longer than the rest of the model."""


@dataclass(frozen=True, slots=True)
class Streams:
    """The residual stream of every calibration row [T, H]: behind quantized matrices, and of the original model."""

    quantized: StreamFile
    original: StreamFile

    @classmethod
    def open(cls, folder: Path, rows: torch.Tensor, hidden_size: int, backend: Backend) -> Streams:
        """The streams kept in `folder` for calibration tokens `rows` [rows, T]; files that are missing are made."""
        quantized, original = (
            StreamFile(folder / name, rows.shape[0], rows.shape[1], hidden_size, backend) for name in STREAM_FILES
        )
        return cls(quantized, original)


STREAM_FILES = ("quantized.f32", "original.f32")


@dataclass(frozen=True, slots=True)
class BlockResult:
    """What came of one part of the model.

    Attributes:
        tensors: of the quantized checkpoint, in model order.
        reports: one entry for each matrix.
        digests: SHA-256 of each matrix as a reader must decode it: float16 [K, N], feature order.
    """

    tensors: dict[str, torch.Tensor]
    reports: list[MatrixReport]
    digests: dict[str, str]


class ModelQuantizer:
    """Quantizes a model part by part: `begin`, `layer` for each layer in order, `head`.

    Whatever one part hands to the next is in the streams, so that a job may end after any part and go on later.

    Args:
        source: the model.
        plan: groups of every matrix.
        recipe: how to quantize.
        tokens: in all calibration rows together.
        progress: is told of the work of every finished matrix; see `matrix_work`.
    """

    def __init__(
        self,
        source: SourceModel,
        plan: Mapping[str, tuple[Group, ...]],
        recipe: Recipe,
        tokens: int,
        progress: Progress,
    ) -> None:
        self._source = source
        self._tokens = tokens
        self._plan = plan
        self._recipe = recipe
        self._progress = progress

    def begin(self, rows: torch.Tensor, streams: Streams) -> BlockResult:
        """Fill the streams with the embeddings of `rows` [rows, T], for the quantized model rounded to half."""
        source = self._source
        for index, row in enumerate(rows):
            embedded = source.model.embed(row)
            streams.original.write(index, embedded)
            streams.quantized.write(index, embedded.half())
        name = f"{source.model.config.spec.names.embedding}.weight"
        return BlockResult({name: source.checkpoint.tensor(source.layout.embedding).half()}, [], {})

    def layer(self, index: int, streams: Streams) -> BlockResult:
        """Quantize a layer; advances the streams.

        Raises:
            QuantizationError: calibration gives inputs that are not finite, or a Hessian that cannot be factored.
        """
        source = self._source
        norms = source.layout.layers[index].norms.values()
        result = BlockResult(dict(source.vectors(name for name, _ in norms)), [], {})
        for half in halves(source.model.parts.layer(index)):
            self._quantize_half(half, streams, result)
        return result

    def head(self, streams: Streams) -> BlockResult:
        """Quantize the head.

        Raises:
            QuantizationError: as of `layer`.
        """
        source = self._source
        output = source.model.output()
        result = BlockResult(dict(source.vectors(iter([source.layout.final_norm]))), [], {})
        moments = InputMoments(output.head.prefix)
        for row in range(streams.quantized.rows):
            original = self._original(streams, row)
            moments.add(
                output.inputs(streams.quantized.read(row)), None if original is None else output.inputs(original)
            )
        self._quantize(output.head, moments, factor_hessian(moments.hessian(), moments.name), result)
        return result

    def _quantize_half(self, half: HalfLayer, streams: Streams, result: BlockResult) -> None:
        """Quantize the entry matrices, then the exit matrix on what they feed it; advances the streams."""
        rows, stale = range(streams.quantized.rows), self._recipe.stale_exit
        # all rows must pass the half while its matrices still are the original ones
        original_inputs = self._exit_inputs("original", half, streams)
        exit_inputs = self._exit_inputs("quantized", half, streams)
        entry = InputMoments(half.entry[0].prefix)
        for row in rows:
            original, quantized = self._original(streams, row), streams.quantized.read(row)
            entry.add(half.entry_inputs(quantized), None if original is None else half.entry_inputs(original))
            if original is not None:
                original_inputs.write(row, half.exit_inputs(original))
            if stale:
                exit_inputs.write(row, half.exit_inputs(quantized))
        factor = factor_hessian(entry.hessian(), entry.name)
        for linear in half.entry:
            self._quantize(linear, entry, factor, result)
        del entry, factor  # as large as what comes next

        moments = InputMoments(half.exit.prefix)
        for row in rows:
            original, quantized = self._original(streams, row), streams.quantized.read(row)
            if not stale:
                exit_inputs.write(row, half.exit_inputs(quantized))
            if original is None:
                moments.add(exit_inputs.read(row))
                continue
            inputs = original_inputs.read(row)
            moments.add(exit_inputs.read(row), inputs, original - quantized)
            half.advance(original, inputs)
            streams.original.write(row, original)
        self._quantize(half.exit, moments, factor_hessian(moments.hessian(), half.exit.prefix), result)
        for row in rows:
            quantized = streams.quantized.read(row)
            half.advance(quantized, half.exit_inputs(quantized) if stale else exit_inputs.read(row))
            streams.quantized.write(row, quantized)
        original_inputs.remove()
        exit_inputs.remove()

    def _exit_inputs(self, name: str, half: HalfLayer, streams: Streams) -> StreamFile:
        path = self._source.scratch / f"{name}-exit-inputs.f32"
        path.unlink(missing_ok=True)
        rows = streams.quantized
        return StreamFile(path, rows.rows, rows.tokens, half.exit.in_features, self._source.model.backend)

    def _original(self, streams: Streams, row: int) -> torch.Tensor | None:
        """A row's residual stream in the original model, if the recipe makes use of it."""
        return streams.original.read(row) if self._recipe.correct_drift else None

    def _quantize(self, linear: Linear, moments: InputMoments, factor: HessianFactor, result: BlockResult) -> None:
        """Quantize one matrix, and let the layer compute with it from now on."""
        return_free_memory()
        source, name = self._source, linear.prefix
        weight, bias = source.weight(name), source.bias(name)
        target = padded_columns(moments.target(weight, factor.damping, self._recipe.residual_share))
        solve = round_to_nearest if weight.numel() > LARGEST_SOLVED_MATRIX else quantize_matrix
        matrix = solve(target, factor, self._plan[name], self._recipe.search)
        if self._recipe.refinement is not None and solve is quantize_matrix:
            matrix = self._recipe.refinement(target, factor, matrix)
        result.reports.append(_matrix_report(name, target, matrix, moments, factor))
        result.digests[name] = weight_digest(matrix.weight.half())
        out_features = weight.shape[1]
        linear.kernel = self._kernel(matrix, bias, out_features)
        result.tensors.update(exl2_state(name, encode(matrix, bias, out_features)))
        self._progress.advance(matrix_work(linear.in_features, out_features, self._tokens), name)

    def _kernel(self, matrix: QuantizedMatrix, bias: torch.Tensor | None, out_features: int) -> LinearKernel:
        return self._source.model.backend.prepare_dense(matrix.weight[:, :out_features].T.contiguous(), bias)


def _matrix_report(
    name: str, target: torch.Tensor, matrix: QuantizedMatrix, moments: InputMoments, factor: HessianFactor
) -> MatrixReport:
    return MatrixReport(
        name=name,
        in_features=target.shape[0],
        out_features=target.shape[1],
        groups=matrix.groups,
        bits_per_weight=layout_bits(matrix.groups, target.shape[1]) / target.numel(),
        error=moments.relative_error(target, matrix.weight),
        damping_steps=factor.damping_steps,
    )
