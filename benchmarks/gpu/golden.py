"""What the original implementation makes of EXL2 files (tests/golden), and what the card does: the same to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.report import Row
from engine.ops.cuda_exl2_matrix import CudaExl2Matrix, Exl2Workspace
from engine.ops.cuda_linear import CudaExl2Linear
from engine.ops.cuda_runtime import Runtime
from engine.ops.exl2 import Exl2Tensors
from engine.ops.exl2_checks import checked_exl2
from engine.ops.exl2_tiles import TILE_COLUMNS, scale_units, tile_table
from tests.engine.ops.golden_matrices import EXL2_GOLDEN, golden_exl2

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "golden"
LARGEST_ERROR = 2e-3


def decode_from_file(runtime: Runtime, tensors: Exl2Tensors) -> torch.Tensor:
    """The weights [K, stored columns], float16, decoded by the kernel that reads the layout of the file."""
    matrix, device = checked_exl2(tensors), runtime.device
    table = torch.tensor([[start, 256 * group + width] for start, group, width in tile_table(matrix.groups)])
    placed = [
        matrix.q_weight.to(device),
        matrix.q_scale.to(device),
        scale_units(matrix).to(device),
        table.to(torch.int32).to(device),
        torch.argsort(matrix.q_invperm).to(torch.int32).to(device),
    ]
    out = torch.full((matrix.in_features, matrix.stored_outputs), torch.nan, dtype=torch.float16, device=device)
    status = runtime.library.functions.quire_cuda_exl2_decode(
        runtime.stream(), *(each.data_ptr() for each in placed), *out.shape, out.data_ptr()
    )
    runtime.library.check(status)
    return out


def check_golden(runtime: Runtime) -> Iterator[Row]:
    """Every file: its weights from its own layout and from tiles, in both orders and types, and a product."""
    halves, bfloats = (Exl2Workspace(runtime, dtype) for dtype in (torch.float16, torch.bfloat16))
    for name in EXL2_GOLDEN:
        tensors, reference, _ = golden_exl2(FOLDER / f"{name}.safetensors")
        weight = reference["weight"]
        used = weight[:, : tensors.out_features]
        kernel = CudaExl2Linear(halves, tensors)
        ordered = used[torch.argsort(tensors.q_invperm.long())]
        found = [
            (decode_from_file(runtime, tensors), weight),
            (kernel.matrix.decoded(), used),
            (_in_stored_order(kernel.matrix), ordered),
            (CudaExl2Matrix(bfloats, tensors).decoded(), used.bfloat16()),
        ]
        different = sum(_different(mine.cpu(), theirs.contiguous()) for mine, theirs in found)
        yield Row(f"golden {name}: decoded weights that differ", float(different), "weights", 0.0)
        expected = reference["y"][:, : tensors.out_features]
        x = reference["x"].to(runtime.device)
        out = torch.full(expected.shape, torch.nan, dtype=torch.float16, device=runtime.device)
        kernel(x, out)
        error = (out.float().cpu() - expected).abs().max() / expected.abs().max()
        yield Row(f"golden {name}: error of a product", float(error.nan_to_num(torch.inf)), "relative", LARGEST_ERROR)


def _different(one: torch.Tensor, other: torch.Tensor) -> int:
    """Numbers of 16 bits whose bits differ."""
    return int((one.view(torch.int16) != other.view(torch.int16)).sum())


def _in_stored_order(matrix: CudaExl2Matrix) -> torch.Tensor:
    columns = matrix.tiled.column_blocks * TILE_COLUMNS
    weight = torch.empty(matrix.in_features, columns, dtype=torch.float16, device=matrix.features.device)
    matrix.decode(0, weight, stored_order=True)
    return weight[:, : matrix.out_features].contiguous()
