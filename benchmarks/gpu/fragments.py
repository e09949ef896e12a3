"""Stage: do matrix instructions on this card give lanes what the tables say that the tests emulate them by?"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu.rows import hand_over, rows_option
from benchmarks.report import Row
from cuda_ext.build import SOURCES, card_architectures, code_flags, find_nvcc
from engine.errors import NativeLibraryError
from engine.ops.cuda_exl2_matrix import MANY_ROWS_CAPABILITY
from tests.emulation import probes
from tests.emulation.probes import run_probe

PROBES = Path(probes.__file__).with_name("probes.cu")
Place = Callable[[torch.Tensor], torch.Tensor]


def build_probes(folder: Path) -> Path:
    """Compile the probes for the cards in this machine.

    Raises:
        NativeLibraryError: there is no nvcc.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        raise NativeLibraryError("nvcc is not found.")
    library = folder / "libprobes.so"
    flags = ["-std=c++17", "-O2", "-shared", "-Xcompiler", "-fPIC", f"-I{SOURCES}", *code_flags(card_architectures())]
    subprocess.run([nvcc, *flags, str(PROBES), "-o", str(library)], check=True)
    return library


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


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.fragments", description=__doc__)
    rows_option(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        functions = ctypes.CDLL(str(build_probes(Path(folder))))
        warp_groups = torch.cuda.get_device_capability() == MANY_ROWS_CAPABILITY
        return hand_over(check_fragments(functions, lambda tensor: tensor.cuda(), warp_groups), options.json)


if __name__ == "__main__":
    sys.exit(main())
