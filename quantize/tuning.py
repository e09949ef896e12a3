"""Tuning what a quantized model stores besides its codes: embedding, norms and scale maxima, all in half precision.

They are trained on the calibration rows to bring the model's distribution close to the original's again. That makes
good errors the matrices cannot make good one by one. It takes the whole model in memory and passes back through it, so
it is for small models. Some rows are kept out of training; where tuning does not help on these, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch

from engine.errors import QuantizationError
from engine.model.formats.exl2 import SUFFIXES, exl2_state
from engine.model.full_attention import FullAttention
from engine.model.linear import Linear
from engine.model.norm import RMSNorm
from engine.model.transformer import DecoderLayer
from engine.ops.exl2 import Exl2Tensors, decode
from quantize.differentiable import WeightKernel, differentiable_parts
from quantize.digest import weight_digest
from quantize.divergence import kl_divergence
from quantize.progress import Progress
from quantize.source_model import SourceModel

BATCH_ROWS = 4
WARM_UP = 10
LARGEST_HELD_OUT = 8
RATE = 3e-3
"""Step of the optimizer, relative to the size of what it changes."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    Attributes:
        tensors: of the checkpoint; the very same objects where tuning did not help.
        digests: of the matrices that were changed, as of `BlockResult`.
        before, after: mean KL divergence on the rows that were kept out of training, in nats.
    """

    tensors: dict[str, torch.Tensor]
    digests: dict[str, str]
    before: float
    after: float


def tune(
    source: SourceModel,
    tensors: Mapping[str, torch.Tensor],
    rows: torch.Tensor,
    steps: int,
    seed: int,
    progress: Progress,
) -> Tuned:
    """Tune a quantized model.

    Args:
        source: the original model.
        tensors: of the quantized checkpoint.
        rows: int32 [rows, T] calibration tokens, at least two.
        steps: of the optimizer, each on four rows.
        seed: of the order of rows.
        progress: is given a stage, and told of every step.
    """
    held_out = max(1, min(LARGEST_HELD_OUT, len(rows) // 10))
    student, teacher = _Student(source, tensors), _Teacher(source, rows)
    check = range(len(rows) - held_out, len(rows))
    progress.stage("Tuning", steps)
    try:
        before = fmean(student.divergence(rows[[index]], teacher, [index]) for index in check)
        with torch.enable_grad():
            student.train(rows[:-held_out], teacher, steps, seed, progress)
        student.round()
        after = fmean(student.divergence(rows[[index]], teacher, [index]) for index in check)
    finally:
        teacher.close()
    if not after < before:  # NaN does not help either
        return Tuned(dict(tensors), {}, before, after)
    return Tuned(student.tensors(), student.digests(), before, after)


class _Teacher:
    """The original model's distribution at every position of all rows."""

    def __init__(self, source: SourceModel, rows: torch.Tensor) -> None:
        self._output = source.model.output()
        self._streams = source.model.run(source.scratch / "teacher.f32", rows, lambda: None)

    def log_probabilities(self, indices: Sequence[int]) -> torch.Tensor:
        """float32 [rows · T, V] of the rows with these indices."""
        return torch.cat([self._output.log_probabilities(self._streams.read(index)) for index in indices])

    def close(self) -> None:
        """Delete what was kept on disk."""
        self._streams.remove()


class _Matrix:
    """A quantized matrix whose maxima may change; codes and scale codes stay.

    Attributes:
        name: checkpoint prefix.
        stored: as it would be written.
        logarithms: float32 [G] of the factor on each group's maximum, what is trained.
    """

    def __init__(self, linear: Linear, source: SourceModel, tensors: Mapping[str, torch.Tensor]) -> None:
        self.name, out_features = linear.prefix, linear.out_features
        q_weight, q_invperm, q_scale, q_scale_max, q_groups = (tensors[f"{self.name}.{each}"] for each in SUFFIXES)
        bias = tensors.get(f"{self.name}.bias")
        self.stored = Exl2Tensors(q_weight, q_invperm, q_scale, q_scale_max, q_groups, bias, out_features)
        self._base = decode(self.stored)[:, :out_features].float()
        device, original_bias = q_weight.device, source.bias(self.name)
        self._kernel = WeightKernel(linear.kernel, None if original_bias is None else original_bias.to(device))
        linear.kernel = self._kernel
        counts = torch.tensor([group.rows for group in self.stored.groups], device=device)
        group_of_row = torch.repeat_interleave(torch.arange(len(counts), device=device), counts)
        self._group = group_of_row[self.stored.q_invperm.long()]
        self.logarithms = torch.zeros(len(counts), device=device, requires_grad=True)

    def refresh(self) -> None:
        """Have the model compute with the weights as they are now."""
        self._kernel.weight = self._base * self.logarithms.exp()[self._group, None]

    def round(self) -> None:
        """From now on the weights are what a reader decodes."""
        scale_max = (self.stored.q_scale_max.float() * self.logarithms.detach().exp()).half()
        self.stored = replace(self.stored, q_scale_max=scale_max)
        self._base = decode(self.stored)[:, : self.stored.out_features].float()
        self.logarithms.data.zero_()

    def tensors(self) -> dict[str, torch.Tensor]:
        """As they are stored."""
        return exl2_state(self.name, self.stored)


class _Student:
    """The quantized model, whole and in float32."""

    def __init__(self, source: SourceModel, tensors: Mapping[str, torch.Tensor]) -> None:
        model, layout = source.model, source.layout
        tensors = {name: tensor.to(model.backend.device) for name, tensor in tensors.items()}
        parts, config = differentiable_parts(model.parts), model.config
        self._layers = [parts.layer(index) for index in range(config.num_layers)]
        self._norm, self._head, self._outputs = parts.final_norm(), parts.head(), config.vocab_size
        self._tensors = tensors
        self._matrices = [_Matrix(linear, source, tensors) for linear in self._linears()]
        norms = {layout.final_norm: self._norm}
        for layer, names in zip(self._layers, layout.layers, strict=True):
            norms |= {name: _norm_of(layer, module) for module, (name, _) in names.norms.items()}
        self._norms = norms
        for name, norm in norms.items():
            norm.weight = tensors[name].float().requires_grad_()
        self._embedding_name = f"{config.spec.names.embedding}.weight"
        self._embedding = tensors[self._embedding_name].float().requires_grad_()

    def train(self, rows: torch.Tensor, teacher: _Teacher, steps: int, seed: int, progress: Progress) -> None:
        """Adam on rows in random order; the rate rises for some steps and then falls to nothing."""
        vectors = [self._embedding, *(norm.weight for norm in self._norms.values())]
        groups = [{"params": [each], "lr": RATE * float(each.detach().square().mean().sqrt())} for each in vectors]
        groups.append({"params": [matrix.logarithms for matrix in self._matrices], "lr": RATE})
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 - step / steps)
        )
        for indices in _batches(len(rows), steps, torch.Generator().manual_seed(seed)):
            optimizer.zero_grad()
            self._loss(rows[indices], teacher, indices).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            progress.advance()

    def divergence(self, rows: torch.Tensor, teacher: _Teacher, indices: Sequence[int]) -> float:
        """Mean KL divergence from the teacher on `rows` [rows, T], which are its rows of these indices."""
        with torch.no_grad():
            return float(self._loss(rows, teacher, indices))

    def round(self) -> None:
        """From now on everything is as it will be stored."""
        for matrix in self._matrices:
            matrix.round()
        for tensor in (self._embedding, *(norm.weight for norm in self._norms.values())):
            tensor.data.copy_(tensor.data.half())

    def tensors(self) -> dict[str, torch.Tensor]:
        """Of the checkpoint, in the order they came in."""
        changed = {name: norm.weight.detach().half() for name, norm in self._norms.items()}
        changed[self._embedding_name] = self._embedding.detach().half()
        for matrix in self._matrices:
            changed |= matrix.tensors()
        return {name: changed.get(name, tensor) for name, tensor in self._tensors.items()}

    def digests(self) -> dict[str, str]:
        """Of every matrix, as a reader decodes it."""
        return {matrix.name: weight_digest(decode(matrix.stored)) for matrix in self._matrices}

    def _loss(self, rows: torch.Tensor, teacher: _Teacher, indices: Sequence[int]) -> torch.Tensor:
        count, length = rows.shape
        device = self._embedding.device
        for matrix in self._matrices:
            matrix.refresh()
        stream = self._embedding[rows.flatten().long().to(device)]
        positions = torch.arange(length, dtype=torch.int32, device=device).repeat(count)
        for layer in self._layers:
            layer.forward(stream, positions, FullAttention([length] * count))
        normed = torch.empty_like(stream)
        self._norm.forward(stream, normed)
        logits = torch.empty(len(stream), self._outputs, device=device)
        self._head.forward(normed, logits)
        return kl_divergence(teacher.log_probabilities(indices), logits.log_softmax(-1)).mean()

    def _linears(self) -> list[Linear]:
        return [*(linear for layer in self._layers for linear in layer.linears), self._head]


def _norm_of(layer: DecoderLayer, module: str) -> RMSNorm:
    """The norm of a layer by its field in `CheckpointNames`."""
    of_heads = {"q_norm": layer.attention.q_norm, "k_norm": layer.attention.k_norm}
    found = {"input_norm": layer.input_norm, "post_attention_norm": layer.post_attention_norm, **of_heads}[module]
    if found is None:
        raise QuantizationError(f"The model has no norm {module} where its layout names one.")
    return found


def _batches(rows: int, steps: int, generator: torch.Generator) -> Iterator[list[int]]:
    """Indices of the rows of each step: all rows in random order, again and again."""
    order: list[int] = []
    for _ in range(steps):
        while len(order) < min(BATCH_ROWS, rows):
            order += torch.randperm(rows, generator=generator).tolist()
        batch, order = order[:BATCH_ROWS], order[BATCH_ROWS:]
        yield batch
