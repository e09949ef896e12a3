// Shared memory by name. Kernels do not write `__shared__` themselves: under emulation each block has its own memory,
// filled with NaN at the start, and every access by index is held to its bounds.
//
//   QUIRE_SHARED(float, sums, 32);       float sums[32], size known at compile time
//   QUIRE_DYNAMIC_SHARED(uint4, tiles);  what the launch asked for, 16-byte aligned; once per kernel
#pragma once

#include "platform.cuh"

#ifdef QUIRE_EMULATE
#include "emulation/shared_memory.h"
#else
#define QUIRE_SHARED(type, name, count) __shared__ __align__(16) type name[count]
#define QUIRE_DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char quire_dynamic_shared[]; \
    type *const name = reinterpret_cast<type *>(quire_dynamic_shared)
#endif
