"""Plain GPTQ, which what the quantizer costs is measured against: every matrix at one width, nothing searched.

One pass over the layers: Hessians of the quantized model's inputs, act-order GPTQ, and on with what it gives. Scales
follow from the largest weights, as in the paper (Frantar et al., 2022), put into the form EXL2 stores. There is no
measurement, no correction of targets and no refinement.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.model.formats.base import LinearShape
from engine.model.tensor_layout import TensorLayout
from engine.ops.exl2 import WIDTHS, layout_bits
from quantize.exl2.allocate import Choices
from quantize.exl2.candidates import GROUP_SIZES, Option, group_rows
from quantize.exl2.layout import Group
from quantize.exl2.scales import GroupScales, column_steps
from quantize.progress import Progress
from quantize.recipe import Recipe
from quantize.source_model import SourceModel


class UniformWidths:
    """Implements `Measurement` without looking at anything: one option for each width, in the largest groups."""

    def __call__(self, source: SourceModel, rows: torch.Tensor, progress: Progress) -> list[Choices]:  # noqa: ARG002
        """See `Measurement`; the errors are zero."""
        return self.sizes(source.layout)

    def sizes(self, layout: TensorLayout) -> list[Choices]:
        """See `Measurement`."""
        shapes = [shape for layer in layout.layers for shape in layer.linears.values()]
        return [
            Choices((shape.prefix,), shape.weights, [_uniform(shape, bits) for bits in sorted(WIDTHS)])
            for shape in shapes
        ]


def _uniform(shape: LinearShape, bits: int) -> Option:
    groups = tuple(Group(bits, rows) for rows in group_rows(shape.in_features, max(GROUP_SIZES)))
    return Option((groups,), layout_bits(groups, shape.out_features), 0.0)


class WidthAllocator:
    """Implements `Allocator`: the same width for every matrix, what is stored besides the codes not counted."""

    def __call__(self, choices: Sequence[Choices], bits_per_weight: float, seed: int) -> list[Option]:  # noqa: ARG002
        """See `Allocator`; the width is the widest within the bits asked for."""
        position = max(index for index, bits in enumerate(sorted(WIDTHS)) if bits <= bits_per_weight)
        return [each.options[position] for each in choices]


class LargestWeights:
    """Implements `ScaleSearch` without a search: the largest weight of every column is just representable."""

    def __call__(self, rows: torch.Tensor, bits: int, importance: torch.Tensor) -> GroupScales:  # noqa: ARG002
        """See `ScaleSearch`; the importance of rows is not used."""
        largest = (rows.abs().amax(0) + 1e-12) / (((1 << bits) - 1) / 2)
        scale_max = largest.max()
        codes = torch.clamp(torch.round(16 * torch.sqrt(largest / scale_max)), 1, 16).sub_(1).to(torch.uint8)
        half = scale_max.half()
        return GroupScales(codes, half, column_steps(codes[None], half[None])[0])


PLAIN_GPTQ = Recipe(
    measure=UniformWidths(),
    allocate=WidthAllocator(),
    measure_head=None,
    search=LargestWeights(),
    refinement=None,
    correct_drift=False,
    residual_share=0.0,
    stale_exit=True,
)
