"""The allocator's heap, which would otherwise grow from layer to layer."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache


def return_free_memory() -> None:
    """Have the allocator hand back to the system what is free in its heap.

    glibc keeps the room of tensors of up to 32 MiB that are gone, for others to come. Those of the quantizer differ in
    size from step to step, so that much of that room fits none of them, and the heap would grow with the number of
    matrices. Where libc has no `malloc_trim`, nothing happens.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    trim: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return trim
