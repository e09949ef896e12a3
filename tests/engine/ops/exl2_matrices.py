"""Random EXL2 matrices."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups, layout_groups, pack_codes, pack_scale_codes


@st.composite
def layouts(draw: st.DrawFn, max_groups: int = 5, max_rows: int = 128) -> list[tuple[int, int]]:
    """(width, rows) of each group, as the format allows them."""
    widths = sorted(draw(st.lists(st.sampled_from(WIDTHS), min_size=1, max_size=max_groups)), reverse=True)
    rows = st.integers(1, max_rows // 32).map(lambda blocks: 32 * blocks)
    return [(width, draw(rows)) for width in widths]


def random_codes(layout: list[tuple[int, int]], columns: int, generator: torch.Generator) -> torch.Tensor:
    """Codes of every weight, uint8 [K, N]."""
    return torch.cat(
        [
            torch.randint(0, 1 << width, (rows, columns), generator=generator, dtype=torch.uint8)
            for width, rows in layout
        ]
    )


def random_exl2(
    layout: list[tuple[int, int]],
    out_features: int = 32,
    *,
    seed: int = 0,
    largest_scale: float = 0.1,
    bias: bool = False,
    prescale: float = 1.0,
) -> Exl2Tensors:
    """A valid matrix with random codes, scales and permutation."""
    generator = torch.Generator().manual_seed(seed)
    columns = out_features + -out_features % 32
    inputs = sum(rows for _, rows in layout)
    scale_codes = torch.randint(0, 16, (len(layout), columns), generator=generator, dtype=torch.uint8)
    return Exl2Tensors(
        q_weight=pack_codes(random_codes(layout, columns, generator), layout_groups(layout)),
        q_invperm=torch.randperm(inputs, generator=generator).to(torch.int32),
        q_scale=pack_scale_codes(scale_codes),
        q_scale_max=(torch.rand(len(layout), generator=generator) * largest_scale).half(),
        q_groups=build_q_groups(layout),
        bias=torch.randn(columns, generator=generator).half() if bias else None,
        out_features=out_features,
        prescale=prescale,
    )


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors of the same type hold the same bytes; unlike equality, tells -0 from 0."""
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.uint8), b.view(torch.uint8))
