"""The thread pool and its owner: many regions, many contexts, more threads than CPUs, forks and exits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.server_process import eventually
from cpu_ext.context import Context, check
from cpu_ext.loader import Isa, Library
from engine.errors import CapacityError, KernelArgumentError
from engine.ops.cpu_backend import CpuBackend
from tests.kernels.cases import generator, run_linear

FORK = """
import os
import torch
from engine.ops.cpu_backend import CpuBackend
backend = CpuBackend(3)
kernel = backend.prepare_dense(torch.eye(128), None)
x = torch.arange(256.0).reshape(2, 128)
def right():
    out = torch.empty(2, 128)
    kernel(x, out)
    return torch.equal(out, x)
assert right()
child = os.fork()
if child == 0:
    fine = right()
    del kernel, backend
    os._exit(0 if fine else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert right()
"""

# The daemon thread makes no torch calls: torch itself aborts when a daemon thread of its meets the end of Python.
EXIT = """
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from cpu_ext.context import Context
from cpu_ext.loader import load_library
import torch
contexts = [Context(load_library(), threads) for threads in (1, 2, 5)]
ones, out = torch.ones(1 << 16), torch.zeros(1 << 16)
pointers = contexts[2].handle, ones.data_ptr(), ones.data_ptr(), ones.numel(), out.data_ptr()
def work():
    while True:
        contexts[2].functions.quire_silu_mul(*pointers)
threading.Thread(target=work, daemon=True).start()
contexts[1].functions.quire_add(contexts[1].handle, ones.data_ptr(), 8, ones.data_ptr())
sys.exit(0)
"""


def run_script(script: str) -> None:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_many_tiny_calls(library: Library, threads: int) -> None:
    backend = CpuBackend(threads)
    weight = torch.randn(96, 64, generator=generator(1))
    kernel = backend.prepare_dense(weight, None)
    x = torch.randn(2, 64, generator=generator(2))
    expected = run_linear(kernel, x)
    for _ in range(300):
        assert torch.equal(run_linear(kernel, x), expected)


def test_contexts_are_independent(library: Library) -> None:
    weight = torch.randn(96, 64, generator=generator(1))
    x = torch.randn(5, 64, generator=generator(2))
    kernels = [CpuBackend(threads).prepare_dense(weight, None) for threads in (1, 2, 3)]
    expected = run_linear(kernels[0], x)
    for _ in range(50):
        for kernel in kernels:
            assert torch.equal(run_linear(kernel, x), expected)


def test_concurrent_calls_on_one_context(library: Library) -> None:
    kernel = CpuBackend(2).prepare_dense(torch.randn(96, 64, generator=generator(1)), None)
    inputs = [torch.randn(3, 64, generator=generator(seed)) for seed in range(4)]
    expected = [run_linear(kernel, x) for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        wrong.extend(index for _ in range(100) if not torch.equal(run_linear(kernel, inputs[index]), expected[index]))

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_impossible_numbers_of_threads_are_refused(library: Library) -> None:
    for threads in (0, -1, 2**32 + 2):
        with pytest.raises(KernelArgumentError, match=str(threads)):
            Context(library, threads)


def test_threads_the_system_refuses_are_named() -> None:
    refusing = SimpleNamespace(quire_context_create=lambda *_: None)
    library = Library(Path("libquire_cpu.so"), refusing)  # type: ignore[arg-type]
    with pytest.raises(CapacityError, match="Could not start 500 kernel threads"):
        Context(library, 500)


def test_threads_end_with_the_context(library: Library) -> None:
    def threads() -> set[str]:
        return set(os.listdir("/proc/self/task"))

    if not sys.platform.startswith("linux"):
        pytest.skip("finds threads through /proc")
    before = threads()  # of which some may end meanwhile
    context = Context(library, 5)
    ours = threads() - before
    assert len(ours) == 4
    del context
    eventually(lambda: not ours & threads())  # the system may show one that has ended for a moment


def test_matrix_outlives_the_backend(library: Library) -> None:
    kernel = CpuBackend(2).prepare_dense(torch.eye(32), None)
    x = torch.randn(2, 32, generator=generator(1))
    assert torch.equal(run_linear(kernel, x), x)


def test_child_of_a_fork_goes_on(library: Library) -> None:
    run_script(FORK)


def test_exit_in_the_middle_of_work(library: Library) -> None:
    run_script(EXIT)


def test_widest_instruction_set_is_taken(library: Library) -> None:
    widest = max(isa for isa in (Isa.PORTABLE, Isa.AVX2, Isa.AVX512) if library.supports(isa))
    assert Context(library, 1).isa is widest
    backend = CpuBackend(2)
    assert (backend.name, backend.threads) == (f"cpu-{widest.name.lower()}", 2)
    assert (backend.device, backend.activation_dtype) == (torch.device("cpu"), torch.float32)


def test_refusals(library: Library) -> None:
    check(0)
    with pytest.raises(CapacityError):
        check(1)
