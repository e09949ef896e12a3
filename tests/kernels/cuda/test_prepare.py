"""How kernels are made ready, against a CUDA run-time library that only writes down what it is asked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cpu_ext.loader import find_compiler
from cuda_ext.build import SOURCES

RUNTIME = """
#pragma once
#include <cstdio>
#include <cstddef>
enum cudaError_t { cudaSuccess = 0, cudaErrorRefused = 7 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize, cudaFuncAttributePreferredSharedMemoryCarveout };
enum { cudaSharedmemCarveoutMaxShared = 100 };
typedef void *cudaStream_t;
struct dim3 { unsigned x, y, z; };
struct cudaLaunchConfig_t { dim3 gridDim, blockDim; size_t dynamicSmemBytes; cudaStream_t stream; };
struct cudaFuncAttributes { size_t sharedSizeBytes; };
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
    attributes->sharedSizeBytes = 1024;
    return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute which, int value) {
    if (value > 200000) return cudaErrorRefused;
    std::printf("%s %d\\n", which == cudaFuncAttributeMaxDynamicSharedMemorySize ? "most" : "share", value);
    return cudaSuccess;
}
template <typename... All> cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *, void (*)(All...), All...);
"""

PROGRAM = """
#include "common/launch.cuh"
#include <cstdlib>
void kernel(int) {}
int main(int, char **words) { return quire::prepare(kernel, std::atol(words[1])); }
"""


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that prepares a kernel with 1 KiB of shared memory and as much dynamic one as it is told."""
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("prepare")
    (folder / "cuda_runtime.h").write_text(RUNTIME)
    for name in ("cuda_fp16.h", "cuda_bf16.h"):
        (folder / name).write_text("")
    (folder / "prepare.cpp").write_text(PROGRAM)
    program = folder / "prepare"
    subprocess.run(
        [compiler, "-std=c++17", f"-I{folder}", f"-I{SOURCES}", str(folder / "prepare.cpp"), "-o", str(program)],
        check=True,
    )
    return program


@pytest.mark.parametrize(
    ("dynamic", "asked"),
    [
        (0, ""),
        (40000, "share 100\n"),
        (48 << 10, f"most {48 << 10}\nshare 100\n"),  # with what is not dynamic it is more than any kernel may have
        (100000, "most 100000\nshare 100\n"),
    ],
)
def test_kernels_with_dynamic_shared_memory_ask_for_it_and_for_room_to_share_processors(
    prepare: Path, dynamic: int, asked: str
) -> None:
    done = subprocess.run([prepare, str(dynamic)], check=True, capture_output=True, text=True)
    assert done.stdout == asked


def test_a_refusal_is_told(prepare: Path) -> None:
    assert subprocess.run([prepare, "300000"], check=False).returncode == 7
