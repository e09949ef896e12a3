"""Probe: the native CPU library, loaded and tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cpu_ext.loader import ABI_VERSION, Isa, load_library
from engine.errors import NativeLibraryError
from engine.ops.self_test import KernelReport, try_native_kernels
from quire.doctor.finding import Finding, ok, problem, warning

LIBRARY = "native library"
SELF_TEST = "kernel self-test"
REBUILD = "Build it again: make clean install. Until then: quire serve --kernels torch."


def check(_arguments: Sequence[str]) -> Iterator[Finding]:
    """Load the library and let it compute; takes no arguments."""
    try:
        library = load_library()
        supported = [isa.name for isa in Isa if isa is not Isa.AUTO and library.supports(isa)]
        yield ok(LIBRARY, f"{library.path}, interface {ABI_VERSION}, runs here: {', '.join(supported)}")
        yield judge(try_native_kernels())
    except NativeLibraryError as missing:
        yield warning(LIBRARY, str(missing), "Until then Quire computes with torch, many times slower.")


def judge(report: KernelReport) -> Finding:
    """What the self-test showed."""
    threads = f"{report.threads} thread{'s' if report.threads != 1 else ''}"
    if report.right:
        return ok(SELF_TEST, f"{report.name}, {threads}: an EXL2 product agrees with torch (error {report.error:.1e})")
    return problem(SELF_TEST, f"{report.name} computes a wrong EXL2 product (error {report.error:.1e})", REBUILD)
