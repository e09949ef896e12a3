// Loads, stores and bit operations that are one instruction each, and what blocks need to wait for each other.
#pragma once

#include "platform.cuh"

#ifdef QUIRE_EMULATE
#include "emulation/memory.h"
#else
namespace quire {

// One load of sizeof(T) bytes (4, 8 or 16), to which the address is aligned.
template <typename T>
__device__ __forceinline__ T load(const void *address) {
    return *reinterpret_cast<const T *>(address);
}

template <typename T>
__device__ __forceinline__ void store(void *address, T value) {
    *reinterpret_cast<T *>(address) = value;
}

// 16 bytes of global memory that are read once: they should push nothing else out of the caches.
__device__ __forceinline__ uint4 load_streaming(const void *address) {
    uint4 value;
    asm volatile("ld.global.cs.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}

// Begins to bring the 128 bytes around an address of global memory into the second-level cache.
__device__ __forceinline__ void prefetch(const void *address) {
    asm volatile("prefetch.global.L2 [%0];" : : "l"(address));
}

// Any function of three bits, bit by bit; kTable is its value for a = 0xf0, b = 0xcc, c = 0xaa.
template <int kTable>
__device__ __forceinline__ uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result;
    asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(result) : "r"(a), "r"(b), "r"(c), "n"(kTable));
    return result;
}

// Four bytes picked from the eight of (high, low) by the nibbles of `selector`, without sign replication.
__device__ __forceinline__ uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    return __byte_perm(low, high, selector);
}

// Reads a flag that another block writes with store_release: what it wrote before is seen after.
__device__ __forceinline__ int load_acquire(const int *address) {
    int value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
    return value;
}

__device__ __forceinline__ void store_release(int *address, int value) {
    asm volatile("st.release.gpu.global.s32 [%0], %1;" : : "l"(address), "r"(value) : "memory");
}

// All writes of this thread so far are seen by others before any that follow.
__device__ __forceinline__ void memory_fence() { __threadfence(); }

template <typename T>
__device__ __forceinline__ T atomic_add(T *address, T value) {
    return atomicAdd(address, value);
}

template <typename T>
__device__ __forceinline__ T atomic_max(T *address, T value) {
    return atomicMax(address, value);
}

}  // namespace quire
#endif
