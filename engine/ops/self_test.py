"""Are the native CPU kernels right on this machine? One small EXL2 product, held to the torch reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from cpu_ext.loader import Isa
from engine.ops.backend import Backend
from engine.ops.cpu_backend import CpuBackend
from engine.ops.cpu_count import usable_cores
from engine.ops.exl2 import WIDTHS, Exl2Tensors, build_q_groups
from engine.ops.torch_backend import TorchBackend

LARGEST_ERROR = 1e-5
"""Largest error that rounding explains, relative to the sum of the magnitudes of an output's terms."""

ROWS_PER_WIDTH = 64
OUTPUTS = 96
TOKENS = 3


@dataclass(frozen=True, slots=True)
class KernelReport:
    """What the native kernels are and how they did.

    Attributes:
        name: which kernels they are, e.g. `cpu-avx512`.
        threads: threads they use.
        error: their largest error, in the measure of LARGEST_ERROR.
    """

    name: str
    threads: int
    error: float

    @property
    def right(self) -> bool:
        """Whether rounding explains the error."""
        return self.error <= LARGEST_ERROR


def try_native_kernels(isa: Isa = Isa.AUTO) -> KernelReport:
    """Multiply a small EXL2 matrix that has every bit width natively, and by the reference.

    Raises:
        NativeLibraryError: there is no library, or it does not work here.
    """
    native = CpuBackend(usable_cores(), isa)
    generator = torch.Generator().manual_seed(0)
    tensors = _matrix(generator)
    x = torch.randn(TOKENS, tensors.in_features, generator=generator)
    reference = TorchBackend("cpu", torch.float32)
    expected = _product(reference, tensors, x)
    magnitude = _product(reference, tensors, torch.eye(tensors.in_features)).abs()
    error = (_product(native, tensors, x) - expected).abs() / (x.abs() @ magnitude).clamp_min(1e-30)
    # a NaN is an error beyond measure, and max() alone would keep it a NaN that compares as neither
    return KernelReport(native.name, native.threads, float(error.nan_to_num(nan=torch.inf).max()))


def _matrix(generator: torch.Generator) -> Exl2Tensors:
    """Random codes, scales and order of rows."""
    widths = sorted(WIDTHS, reverse=True)
    in_features = ROWS_PER_WIDTH * len(widths)
    words = sum(ROWS_PER_WIDTH * width // 32 for width in widths)

    def bits(*shape: int) -> torch.Tensor:
        return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32)

    return Exl2Tensors(
        q_weight=bits(words, OUTPUTS),
        q_invperm=torch.randperm(in_features, generator=generator).to(torch.int32),
        q_scale=bits(len(widths), OUTPUTS // 8),
        q_scale_max=torch.full((len(widths),), 0.05, dtype=torch.float16),
        q_groups=build_q_groups([(width, ROWS_PER_WIDTH) for width in widths]),
        bias=None,
        out_features=OUTPUTS,
    )


def _product(backend: Backend, tensors: Exl2Tensors, x: torch.Tensor) -> torch.Tensor:
    """`x @ W`, float32 [rows of x, OUTPUTS]; NaN where a kernel wrote nothing."""
    out = torch.full((x.shape[0], OUTPUTS), torch.nan)
    backend.prepare_exl2(tensors)(x, out)
    return out
