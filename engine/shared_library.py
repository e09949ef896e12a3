"""Opens a compiled library of ours: finds out whether it is there, fits this machine and is of this version."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import NativeLibraryError

Signatures = Mapping[str, tuple[type | None, tuple[type, ...]]]
"""Result and argument types of functions by their names."""


@dataclass(frozen=True, slots=True)
class Interface:
    """The C interface of a library.

    Attributes:
        title: what people call the library, e.g. `CUDA library`.
        version_function: name of the function that gives the version of the interface, a C `int`.
        version: the one that `signatures` are of.
        signatures: of all other functions.
    """

    title: str
    version_function: str
    version: int
    signatures: Signatures


def open_library(path: Path, interface: Interface, how_to_build: str) -> ctypes.CDLL:
    """Open a library and declare its functions.

    Args:
        path: its file.
        interface: what it must have.
        how_to_build: end of every message of an error.

    Raises:
        NativeLibraryError: the library is not built, was built for another machine, or does not match this version
            of Quire; the message says what to do.
    """
    title = interface.title
    if not path.is_file():
        raise NativeLibraryError(f"The {title} is not built ({path} is missing). {how_to_build}")
    try:
        functions = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(
            f"The {title} does not load on this machine ({platform.machine()}): {error}. {how_to_build}"
        ) from error
    try:
        found = int(getattr(functions, interface.version_function)())
        if found != interface.version:
            raise NativeLibraryError(
                f"{path} has interface version {found}, and this version of Quire needs {interface.version}. "
                f"{how_to_build}"
            )
        for name, (result, arguments) in interface.signatures.items():
            function = getattr(functions, name)
            function.restype = result
            function.argtypes = arguments
    except AttributeError as error:
        raise NativeLibraryError(f"{path} is not Quire's {title}: {error}. {how_to_build}") from error
    return functions
