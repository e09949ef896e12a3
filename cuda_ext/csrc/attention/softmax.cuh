// The arithmetic of a softmax that is put together chunk by chunk, and where a query stands. Both ways of computing
// attention (one block for all chunks; a block for each, and another kernel to merge them) use these same functions,
// whose operations the compiler may not fuse or reorder: their results are the same to the bit.
#pragma once

#include "../common/numbers.cuh"
#include "attention.h"

namespace quire {

// What one query head has seen: largest score, and the sum of 2^(score - largest).
struct SoftmaxState {
    float largest = -INFINITY;
    float sum = 0.0f;
};

// How much of what was there before, and of what comes in, remains.
struct MergeFactors {
    float before, coming;
};

__device__ __forceinline__ MergeFactors merge(SoftmaxState &state, SoftmaxState coming) {
    const float largest = fmaxf(state.largest, coming.largest);
    const MergeFactors factors = {exp2f(state.largest - largest), exp2f(coming.largest - largest)};
    state.largest = largest;
    state.sum = __fadd_rn(__fmul_rn(state.sum, factors.before), __fmul_rn(coming.sum, factors.coming));
    return factors;
}

__device__ __forceinline__ float merge_value(float before, float coming, MergeFactors factors) {
    return __fadd_rn(__fmul_rn(before, factors.before), __fmul_rn(coming, factors.coming));
}

// A token of the step: its sequence, and the positions it sees. No position where the row belongs to no sequence.
struct Query {
    int sequence;
    int first, last;

    __device__ __forceinline__ bool exists() const { return last >= 0; }
    __device__ __forceinline__ int first_chunk() const { return first / kChunk; }
    __device__ __forceinline__ int last_chunk() const { return last / kChunk; }
};

__device__ __forceinline__ Query find_query(const AttentionCall &call, int row) {
    if (row >= call.query_start[call.sequences]) return {0, 0, -1};
    int low = 0, high = call.sequences - 1;  // the last sequence that starts at or before the row
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (call.query_start[middle] <= row) low = middle;
        else high = middle - 1;
    }
    const int last = call.context_lens[low] - (call.query_start[low + 1] - row);
    const int first = call.window > 0 && last >= call.window ? last - call.window + 1 : 0;
    return {low, first, last};
}

__device__ __forceinline__ int64_t partial_index(const AttentionCall &call, int row, int head, int chunk) {
    return ((static_cast<int64_t>(row) * call.q_heads + head) * call.chunks + chunk) * (call.head_dim + 2);
}

// An element of q or out, whose type is known only at run time; these are few.
__device__ __forceinline__ float load_activation(const void *array, int64_t index, int dtype) {
    if (dtype == QUIRE_CUDA_F16) return to_float(static_cast<const __half *>(array)[index]);
    return to_float(static_cast<const __nv_bfloat16 *>(array)[index]);
}

__device__ __forceinline__ void store_activation(void *array, int64_t index, int dtype, float value) {
    if (dtype == QUIRE_CUDA_F16) static_cast<__half *>(array)[index] = from_float<__half>(value);
    else static_cast<__nv_bfloat16 *>(array)[index] = from_float<__nv_bfloat16>(value);
}

}  // namespace quire
