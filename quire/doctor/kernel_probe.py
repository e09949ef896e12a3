"""Probe: the native CPU library, loaded and tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.errors import NativeLibraryError
from engine.ops.native_library import describe_library
from engine.ops.self_test import KernelReport, try_native_kernels
from quire.doctor.finding import Finding, ok, problem, warning

LIBRARY = "native library"
SELF_TEST = "kernel self-test"
REBUILD = "Build it again: make clean install. Until then: quire serve --kernels torch."


def check(_arguments: Sequence[str]) -> Iterator[Finding]:
    """Load the library and let it compute; takes no arguments."""
    try:
        library = describe_library()
        runs = ", ".join(library.instruction_sets)
        yield ok(LIBRARY, f"{library.path}, interface {library.abi}, runs here: {runs}")
        yield judge(try_native_kernels())
    except NativeLibraryError as missing:
        yield warning(LIBRARY, str(missing), "Until then Quire computes with torch, many times slower.")


def judge(report: KernelReport) -> Finding:
    """What the self-test showed."""
    threads = f"{report.threads} thread{'s' if report.threads != 1 else ''}"
    if report.right:
        return ok(SELF_TEST, f"{report.name}, {threads}: an EXL2 product agrees with torch (error {report.error:.1e})")
    return problem(SELF_TEST, f"{report.name} computes a wrong EXL2 product (error {report.error:.1e})", REBUILD)
