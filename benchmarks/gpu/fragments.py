"""Stage: do matrix instructions on this card give lanes what the tables say that the tests emulate them by?"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

import torch

from benchmarks.gpu.card import Card
from benchmarks.gpu.program import Program, Wanted
from benchmarks.report import Row
from engine.ops.cuda_exl2_matrix import MANY_ROWS_CAPABILITY
from tests.emulation import probes
from tests.emulation.probes import run_probe

Place = Callable[[torch.Tensor], torch.Tensor]


def check_fragments(functions: ctypes.CDLL, place: Place, warp_groups: bool) -> list[Row]:
    """Largest differences between what the probes give and what the tables say.

    Args:
        functions: the probes' library.
        place: moves a tensor to where the probes run.
        warp_groups: whether the device has their matrix instructions.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(-8, 8, shape, generator=generator).half() for shape in ((16, 16), (16, 8)))
    c = torch.randint(-8, 8, (16, 8), generator=generator).float()
    d = place(probes.d_registers(c).contiguous())
    left, right = place(probes.a_registers(a).contiguous()), place(probes.b_registers(b).contiguous())
    rows = [_row("prepare", run_probe(functions, "probe_prepare"))]
    status = run_probe(functions, "probe_mma", 0, left, right, d)
    difference = (d.cpu() - probes.d_registers(a.float() @ b.float() + c)).abs().max()
    rows.append(_row("mma m16n8k16", status + float(difference)))
    if warp_groups:
        rows += _check_warp_groups(functions, place, generator)
    matrices = torch.arange(4 * 64, dtype=torch.int16).reshape(4, 8, 8)
    for transposed in (False, True):
        source, out = place(matrices), place(torch.zeros(32, 4, 2, dtype=torch.int16))
        status = run_probe(functions, "probe_matrices", 0, source, int(transposed), out)
        different = (out.cpu() != probes.matrix_registers(matrices, transposed)).sum()
        rows.append(_row(f"ldmatrix{' transposed' if transposed else ''}", status + int(different)))
    source = torch.randint(1, 100, (3, 64, 4), generator=generator, dtype=torch.int32)
    target = place(torch.zeros_like(source))
    status = run_probe(functions, "probe_pipeline", 0, place(source), target, 1)
    rows.append(_row("cp.async ring", status + int((target.cpu() != source.roll(-1, 1)).sum())))
    return rows


def _check_warp_groups(functions: ctypes.CDLL, place: Place, generator: torch.Generator) -> list[Row]:
    a, b = (torch.randint(-8, 8, (64, columns), generator=generator).half() for columns in (16, 32))
    c = torch.randint(-8, 8, (64, 64), generator=generator).float()
    rows = []
    for step in (0, 1):
        d = place(probes.group_d_registers(c).contiguous())
        left, right = place(probes.group_a_registers(a).contiguous()), place(b)
        status = run_probe(functions, "probe_group", 0, left, right, step, d)
        expected = probes.group_d_registers(a.float() @ b[:, 16 * step : 16 * step + 16].float().t() + c)
        rows.append(_row(f"wgmma m64n64k16, step {step}", status + float((d.cpu() - expected).abs().max())))
    return rows


def _row(name: str, difference: float) -> Row:
    return Row(f"fragment maps: {name}", float(difference), "difference", target=0.0)


def _rows(card: Card, wanted: Wanted) -> list[Row]:  # noqa: ARG001
    warp_groups = card.capability == MANY_ROWS_CAPABILITY
    return check_fragments(card.probes(), lambda tensor: tensor.to(card.device), warp_groups)


PROGRAM = Program(__doc__, _rows, checks=True)

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
