"""A native context: the threads, instruction set and scratch memory that calls into the library share."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from cpu_ext.loader import Isa, Library
from engine.errors import CapacityError, NativeLibraryError


class Context:
    """Owner of a `quire_context`; its worker threads end with this object.

    Args:
        library: the opened library.
        threads: threads that compute, the calling one included; at least 1.
        isa: instruction set to use; AUTO takes the widest this CPU has.

    Raises:
        NativeLibraryError: the CPU or the library lacks the instruction set, or the threads cannot be had.
    """

    def __init__(self, library: Library, threads: int, isa: Isa = Isa.AUTO) -> None:
        if threads < 1:
            raise NativeLibraryError(f"The native kernels need at least 1 thread, not {threads}.")
        if isa is not Isa.AUTO and not library.supports(isa):
            raise NativeLibraryError(f"{isa.name} kernels cannot run here: this CPU or {library.path} lacks them.")
        handle = library.functions.quire_context_create(threads, isa)
        if not handle:
            raise NativeLibraryError(f"Could not start {threads} kernel threads: the system refused threads or memory.")
        self.functions = library.functions
        self.handle: int = handle
        self.threads = threads
        self.isa = Isa(library.functions.quire_context_isa(handle))
        release_with(self, library.functions.quire_context_destroy, handle)


def release_with(owner: object, destroy: Callable[[int], None], handle: int) -> None:
    """Call `destroy(handle)` when `owner` is gone, but not at interpreter exit.

    At exit a daemon thread may still be inside a kernel, and the process's memory and threads end anyway.
    """
    weakref.finalize(owner, destroy, handle).atexit = False


def check(status: int) -> None:
    """Turn the result of an op into an exception.

    Raises:
        CapacityError: the op could not get scratch memory.
    """
    if status:
        raise CapacityError("A kernel could not get the scratch memory it needs: free memory or lower the limits.")
