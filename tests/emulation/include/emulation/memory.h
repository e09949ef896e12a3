// Loads and stores that check their alignment, bit operations, and atomics, which are plain: one fiber runs at a time.
#pragma once

#include <cstring>

#include "machine.h"
#include "vector_types.h"

namespace quire {

template <typename T>
T load(const void *address) {
    emulation::require_aligned(address, sizeof(T), "load");
    T value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

template <typename T>
void store(void *address, T value) {
    emulation::require_aligned(address, sizeof(T), "store");
    std::memcpy(address, &value, sizeof value);
}

inline uint4 load_streaming(const void *address) { return load<uint4>(address); }

inline void prefetch(const void *address) { load<uint32_t>(address); }

template <int kTable>
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t result = 0;
    for (int index = 0; index < 8; ++index) {
        if ((kTable >> index & 1) == 0) continue;
        result |= (index & 4 ? a : ~a) & (index & 2 ? b : ~b) & (index & 1 ? c : ~c);
    }
    return result;
}

inline uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
    const uint64_t bytes = static_cast<uint64_t>(high) << 32 | low;
    uint32_t result = 0;
    for (int index = 0; index < 4; ++index) {
        const int source = selector >> (4 * index) & 7;
        result |= static_cast<uint32_t>(bytes >> (8 * source) & 0xff) << (8 * index);
    }
    return result;
}

inline int load_acquire(const int *address) { return *const_cast<const volatile int *>(address); }
inline void store_release(int *address, int value) { *const_cast<volatile int *>(address) = value; }
inline void memory_fence() {}

template <typename T>
T atomic_add(T *address, T value) {
    const T before = *address;
    *address = before + value;
    return before;
}

template <typename T>
T atomic_max(T *address, T value) {
    const T before = *address;
    if (before < value) *address = value;
    return before;
}

}  // namespace quire
