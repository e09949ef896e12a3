"""EXL2 matrices of random bits, valid by their form."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups

LARGEST_SCALE = 0.01


def random_exl2(
    layout: Sequence[tuple[int, int]], out_features: int, *, seed: int = 0, bias: bool = False
) -> Exl2Tensors:
    """A matrix on the CPU.

    Args:
        layout: width and rows of each group, widest first.
        out_features: stored columns are the next multiple of 32.
        seed: of everything in it.
        bias: whether it has one.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = out_features + -out_features % 32
    in_features = sum(rows for _, rows in layout)

    def words(*size: int) -> torch.Tensor:
        return torch.randint(-(1 << 31), (1 << 31) - 1, size, generator=generator, dtype=torch.int32)

    return Exl2Tensors(
        q_weight=words(sum(width * rows for width, rows in layout) // 32, columns),
        q_invperm=torch.randperm(in_features, generator=generator).to(torch.int32),
        q_scale=words(len(layout), columns // 8),
        q_scale_max=torch.full((len(layout),), LARGEST_SCALE, dtype=torch.float16),
        q_groups=build_q_groups(list(layout)),
        bias=torch.randn(columns, generator=generator).half() if bias else None,
        out_features=out_features,
    )


def every_width(rows: int) -> list[tuple[int, int]]:
    """A layout with a group of so many rows in each width there is."""
    return [(width, rows) for width in sorted(WIDTHS, reverse=True)]
