// Sums and maxima of whole numbers over a block: exact, so their order does not matter.
#pragma once

#include "../common/warp.cuh"
#include "sampling.h"

namespace quire::sampling {

// The largest value of a block of kThreads, in every thread.
template <int kThreads>
__device__ __forceinline__ Mass block_max(Mass value) {
    QUIRE_SHARED(Mass, largest, kThreads / kWarp);
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value = max(value, shuffle_xor(value, mask));
    if (lane_index() == 0) largest[warp_index()] = value;
    block_sync();
    for (int warp = 0; warp < kThreads / kWarp; ++warp) value = max(value, largest[warp]);
    block_sync();  // the next call may write again
    return value;
}

__device__ __forceinline__ Mass warp_total(Mass value) {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

// The sum of the values of all threads before this one.
template <int kThreads>
__device__ __forceinline__ Mass sum_before(Mass value) {
    QUIRE_SHARED(Mass, totals, kThreads / kWarp);
    Mass sum = value;
    for (int delta = 1; delta < kWarp; delta *= 2) {
        const Mass before = shuffle_up(sum, delta);
        if (lane_index() >= delta) sum += before;
    }
    if (lane_index() == kWarp - 1) totals[warp_index()] = sum;
    block_sync();
    for (int warp = 0; warp < warp_index(); ++warp) sum += totals[warp];
    block_sync();  // the next call may write again
    return sum - value;
}

}  // namespace quire::sampling
