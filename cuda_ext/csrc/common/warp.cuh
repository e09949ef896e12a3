// Barriers and exchange between threads. Block sizes are multiples of 32, and a warp's operations are called by all of
// its lanes; emulation refuses anything else.
#pragma once

#include "platform.cuh"
#include "shared_memory.cuh"

#ifdef QUIRE_EMULATE
#include "emulation/warp.h"
#else
namespace quire {

// All threads of the block wait for each other.
__device__ __forceinline__ void block_sync() { __syncthreads(); }

// The lanes of a warp wait for each other, and see what the others wrote to memory before.
__device__ __forceinline__ void warp_sync() { __syncwarp(); }

template <typename T>
__device__ __forceinline__ T shuffle(T value, int lane) {
    return __shfl_sync(kAllLanes, value, lane);
}

template <typename T>
__device__ __forceinline__ T shuffle_xor(T value, int mask) {
    return __shfl_xor_sync(kAllLanes, value, mask);
}

// Lane l gets the value of lane l + delta; its own where there is no such lane.
template <typename T>
__device__ __forceinline__ T shuffle_down(T value, int delta) {
    return __shfl_down_sync(kAllLanes, value, delta);
}

// Lane l gets the value of lane l - delta; its own where there is no such lane.
template <typename T>
__device__ __forceinline__ T shuffle_up(T value, int delta) {
    return __shfl_up_sync(kAllLanes, value, delta);
}

// Bit l is set where lane l's predicate holds.
__device__ __forceinline__ unsigned ballot(bool predicate) { return __ballot_sync(kAllLanes, predicate); }
__device__ __forceinline__ bool any(bool predicate) { return __any_sync(kAllLanes, predicate); }
__device__ __forceinline__ bool all(bool predicate) { return __all_sync(kAllLanes, predicate); }

// To be called in a loop that waits for another block.
__device__ __forceinline__ void spin_pause() { __nanosleep(32); }

}  // namespace quire
#endif

namespace quire {

__device__ __forceinline__ int lane_index() { return threadIdx.x % kWarp; }
__device__ __forceinline__ int warp_index() { return threadIdx.x / kWarp; }

// Sum over the warp in one fixed order, the same in every lane.
__device__ __forceinline__ float warp_sum(float value) {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

__device__ __forceinline__ int warp_sum(int value) {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value += shuffle_xor(value, mask);
    return value;
}

// The sum over this lane and those before it.
__device__ __forceinline__ int warp_running_sum(int value) {
    for (int delta = 1; delta < kWarp; delta *= 2) {
        const int before = shuffle_up(value, delta);
        if (lane_index() >= delta) value += before;
    }
    return value;
}

__device__ __forceinline__ float warp_max(float value) {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) value = fmaxf(value, shuffle_xor(value, mask));
    return value;
}

// Sum over a block of kThreads in one fixed order, the same in every thread.
template <int kThreads>
__device__ __forceinline__ float block_sum(float value) {
    constexpr int kWarps = kThreads / kWarp;
    QUIRE_SHARED(float, sums, kWarps);
    value = warp_sum(value);
    if (lane_index() == 0) sums[warp_index()] = value;
    block_sync();
    float total = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
    block_sync();  // the next call may write again
    return total;
}

}  // namespace quire
