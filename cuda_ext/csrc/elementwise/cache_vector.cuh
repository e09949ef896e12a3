// Where the paged cache holds a head's key or value.
#pragma once

#include "../common/platform.cuh"

namespace quire {

struct CacheShape {
    int kv_heads, block_size, head_dim;

    // First element of the vector of a head at a slot (block * block_size + offset).
    __device__ __forceinline__ int64_t vector(int slot, int head) const {
        const int64_t block_and_head = static_cast<int64_t>(slot / block_size) * kv_heads + head;
        return (block_and_head * block_size + slot % block_size) * head_dim;
    }
};

}  // namespace quire
