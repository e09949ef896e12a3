"""What the allocator keeps is handed back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

ROOM = """
import torch
from pathlib import Path
from quantize.heap import return_free_memory

def anonymous():
    fields = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) >> 10

torch.empty(16 << 20, dtype=torch.uint8)  # from now on glibc takes what is smaller from its heap
before = anonymous()
held = [torch.ones(256 << 10, dtype=torch.uint8) for _ in range(400)]
held = held[::50]  # these keep the heap from being cut off at its end
print(anonymous() - before)
return_free_memory()
print(anonymous() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_free_room_goes_back_to_the_system() -> None:
    """100 MiB are taken, of which 2 MiB stay in use."""
    # settings of the allocator that somebody has made here, or another allocator, are not what this is about
    ours = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    printed = subprocess.run([sys.executable, "-c", ROOM], check=True, capture_output=True, text=True, env=plain).stdout
    kept, after = map(int, printed.split())
    assert kept > 80  # without which the test would show nothing
    assert after < 20
