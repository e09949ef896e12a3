"""A native context: the threads, instruction set and scratch memory that calls into the library share."""

from __future__ import annotations

import weakref
from collections.abc import Callable

from cpu_ext.loader import Isa, Library
from engine.errors import CapacityError, KernelArgumentError, NativeLibraryError

MAX_INT32 = 2**31 - 1


class Context:
    """Owner of a `quire_context`; its worker threads end with this object.

    Args:
        library: the opened library.
        threads: threads that compute, the calling one included.
        isa: instruction set to use; AUTO takes the widest this CPU has.

    Raises:
        KernelArgumentError: the number of threads is not between 1 and what a C int holds.
        NativeLibraryError: the CPU or the library lacks the instruction set.
        CapacityError: the system does not give the threads or their memory.
    """

    def __init__(self, library: Library, threads: int, isa: Isa = Isa.AUTO) -> None:
        if not 1 <= threads <= MAX_INT32:
            raise KernelArgumentError(f"The native kernels cannot run on {threads} threads.")
        if isa is not Isa.AUTO and not library.supports(isa):
            raise NativeLibraryError(f"{isa.name} kernels cannot run here: this CPU or {library.path} lacks them.")
        handle = library.functions.quire_context_create(threads, isa)
        if not handle:
            raise CapacityError(
                f"Could not start {threads} kernel threads: the system refused threads or memory. Lower threads."
            )
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
