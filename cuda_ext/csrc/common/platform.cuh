// What a kernel's source is compiled with: nvcc and the CUDA headers, or any C++ compiler and the emulation that the
// tests bring (tests/emulation/include). Kernels use what stands in this folder and no PTX of their own, so that the
// same source runs in both.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef QUIRE_EMULATE
#include "emulation/platform.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#endif

// Before a loop: write it out this many times over.
#ifdef QUIRE_EMULATE
#define QUIRE_UNROLL(count)
#else
#define QUIRE_PRAGMA(text) _Pragma(#text)
#define QUIRE_UNROLL(count) QUIRE_PRAGMA(unroll count)
#endif

namespace quire {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

}  // namespace quire
