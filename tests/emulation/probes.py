"""The functions of probes.cu, by name; the same on the emulated device and on a real one."""

from __future__ import annotations

from ctypes import CDLL, c_int32, c_void_p

import torch

SIGNATURES: dict[str, tuple[type, ...]] = {
    "probe_prepare": (),
    "probe_mma": (c_void_p,) * 4,
    "probe_matrices": (c_void_p, c_void_p, c_int32, c_void_p),
    "probe_group": (c_void_p, c_void_p, c_void_p, c_int32, c_void_p),
    "probe_exchanges": (c_void_p,) * 4,
    "probe_block_sums": (c_void_p,) * 3,
    "probe_pipeline": (c_void_p, c_void_p, c_void_p, c_int32),
    "probe_turns": (c_void_p, c_int32, c_void_p, c_void_p),
}
"""Arguments of each probe, the stream first."""


def run_probe(functions: CDLL, name: str, *arguments: torch.Tensor | int) -> int:
    """Start a probe; tensors stand for their addresses. Returns its status."""
    function = getattr(functions, name)
    function.argtypes = SIGNATURES[name]
    function.restype = c_int32
    return int(function(*(each.data_ptr() if isinstance(each, torch.Tensor) else each for each in arguments)))


def fragment_lanes() -> tuple[torch.Tensor, torch.Tensor]:
    """Group and thread in group of every lane, [32, 1] each, as the PTX ISA names them."""
    lane = torch.arange(32)
    return (lane // 4)[:, None], (lane % 4)[:, None]


def a_registers(a: torch.Tensor) -> torch.Tensor:
    """What each lane holds of A [16, 16]: [32, 4 registers, 2 halves]."""
    group, thread = fragment_lanes()
    k = 2 * thread + torch.arange(2)
    return torch.stack([a[group + m, k + first] for first in (0, 8) for m in (0, 8)], 1)


def b_registers(b: torch.Tensor) -> torch.Tensor:
    """What each lane holds of B [16, 8]: [32, 2 registers, 2 halves]."""
    group, thread = fragment_lanes()
    k = 2 * thread + torch.arange(2)
    return torch.stack([b[k + first, group] for first in (0, 8)], 1)


def d_registers(d: torch.Tensor) -> torch.Tensor:
    """What each lane holds of C or D [16, 8]: [32, 4 floats]."""
    group, thread = fragment_lanes()
    n = 2 * thread + torch.arange(2)
    return torch.cat([d[group, n], d[group + 8, n]], 1)


def group_a_registers(a: torch.Tensor) -> torch.Tensor:
    """What each thread of a warp group holds of A [64, 16]: [128, 4 registers, 2 halves]."""
    return torch.cat([a_registers(rows) for rows in a.reshape(4, 16, 16).unbind()])


def group_d_registers(d: torch.Tensor) -> torch.Tensor:
    """What each thread of a warp group holds of D [64, 64]: [128, 32 floats]."""
    blocks = d.reshape(4, 16, 8, 8)  # of 16 rows and 8 columns
    return torch.cat([torch.cat([d_registers(part) for part in rows.unbind(1)], 1) for rows in blocks.unbind()])


def matrix_registers(matrices: torch.Tensor, transposed: bool) -> torch.Tensor:
    """What ldmatrix gives each lane of four matrices [4, 8, 8]: [32, 4 registers, 2 halves]."""
    group, thread = fragment_lanes()
    seen = matrices.transpose(1, 2) if transposed else matrices
    return seen[:, group, 2 * thread + torch.arange(2)].transpose(0, 1)
