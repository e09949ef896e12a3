"""The native CPU library as an installation has it: where it is, what it can do here, what could build it. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpu_ext.loader import ABI_VERSION, COMPILERS, LIBRARY_PATH, Isa, find_compiler, load_library


@dataclass(frozen=True, slots=True)
class NativeLibrary:
    """A library that loads.

    Attributes:
        path: its file.
        abi: version of its interface.
        instruction_sets: those it has kernels for and this CPU can run.
    """

    path: Path
    abi: int
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BuildTools:
    """What a build would need, and whether one is needed.

    Attributes:
        compiler: path of the compiler that would be used, or None.
        known_compilers: names that are looked for.
        built: whether there is a library already.
    """

    compiler: str | None
    known_compilers: tuple[str, ...]
    built: bool


def describe_library() -> NativeLibrary:
    """Load the library and ask it.

    Raises:
        NativeLibraryError: it is not built or does not load here; the message says what to do.
    """
    library = load_library()
    supported = (isa.name for isa in Isa if isa is not Isa.AUTO and library.supports(isa))
    return NativeLibrary(library.path, ABI_VERSION, tuple(supported))


def build_tools() -> BuildTools:
    """Look for a compiler; loads nothing."""
    return BuildTools(find_compiler(), COMPILERS, LIBRARY_PATH.is_file())
