// Copies from global to shared memory that run beside the arithmetic (cp.async), in groups that are waited for in
// order. Before sm_80 they are ordinary copies. Under emulation the bytes arrive only when they are waited for, and the
// target holds NaN until then: a missing or too weak wait shows.
#pragma once

#include "platform.cuh"

#ifdef QUIRE_EMULATE
#include "emulation/async_copy.h"
#else
namespace quire {

__device__ __forceinline__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// 16 bytes, both sides aligned to 16, past the first-level cache. Where `wanted` is false zeros are written and nothing
// is read.
__device__ __forceinline__ void copy_async_16(void *shared, const void *global, bool wanted = true) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(global), "r"(wanted ? 16 : 0)
                 : "memory");
#else
    *static_cast<uint4 *>(shared) = wanted ? *static_cast<const uint4 *>(global) : make_uint4(0, 0, 0, 0);
#endif
}

// Ends the group of this thread's copies since the last commit; it may be empty.
__device__ __forceinline__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

// Waits until at most kPending of this thread's latest groups are under way. Others see the bytes after a barrier.
template <int kPending>
__device__ __forceinline__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" : : "n"(kPending) : "memory");
#endif
}

}  // namespace quire
#endif
