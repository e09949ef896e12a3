// The arithmetic of a softmax that is put together chunk by chunk, and where a query stands. Every way of computing
// attention merges the same chunks in the same order by these functions, whose operations the compiler may not fuse or
// reorder: the two ways of each kernel, and decode.cuh and prompt.cuh among themselves, agree to the bit.
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

__device__ __forceinline__ MergeFactors merge_factors(float before, float coming, float largest) {
    if (largest == -INFINITY) return {1.0f, 0.0f};  // nothing has been seen yet
    return {fast_exp2(before - largest), fast_exp2(coming - largest)};
}

__device__ __forceinline__ float merge_value(float before, float coming, MergeFactors factors) {
    return __fmaf_rn(before, factors.before, __fmul_rn(coming, factors.coming));
}

__device__ __forceinline__ MergeFactors merge(SoftmaxState &state, SoftmaxState coming) {
    const float largest = fmaxf(state.largest, coming.largest);
    const MergeFactors factors = merge_factors(state.largest, coming.largest, largest);
    state.largest = largest;
    state.sum = merge_value(state.sum, coming.sum, factors);
    return factors;
}

// The positions a query sees; none where there is no query.
struct Visible {
    int first = 1, last = 0;

    __device__ __forceinline__ int first_chunk() const { return first / kChunk; }
    __device__ __forceinline__ int last_chunk() const { return last / kChunk; }
    __device__ __forceinline__ int chunks() const { return last_chunk() - first_chunk() + 1; }
};

__device__ __forceinline__ Visible seen_from(const AttentionCall &call, int position) {
    return {call.window > 0 && position >= call.window ? position - call.window + 1 : 0, position};
}

// The rows of a sequence.
struct Rows {
    int first = 0, count = 0;
    int position = 0;  // of the first
};

__device__ __forceinline__ Rows rows_of(const AttentionCall &call, int sequence) {
    Rows rows;
    rows.first = call.query_start[sequence];
    rows.count = call.query_start[sequence + 1] - rows.first;
    rows.position = call.context_lens[sequence] - rows.count;
    return rows;
}

// A token of the step.
struct Query {
    int sequence;
    Visible visible;

    __device__ __forceinline__ bool exists() const { return visible.last >= visible.first; }
};

__device__ __forceinline__ Query find_query(const AttentionCall &call, int row) {
    if (row >= call.query_start[call.sequences]) return {0, {}};
    int low = 0, high = call.sequences - 1;  // the last sequence that starts at or before the row
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (call.query_start[middle] <= row) low = middle;
        else high = middle - 1;
    }
    const Rows rows = rows_of(call, low);
    return {low, seen_from(call, rows.position + row - rows.first)};
}

// The row of the cache (counting every position of every head of every block) that holds a position; -1 if it is not
// seen.
__device__ __forceinline__ int find_cache_row(const AttentionCall &call, int sequence, int kv_head, Visible visible,
                                              int position) {
    if (position < visible.first || position > visible.last) return -1;
    const int64_t entry = static_cast<int64_t>(sequence) * call.table_width + position / call.block_size;
    return (call.block_tables[entry] * call.kv_heads + kv_head) * call.block_size + position % call.block_size;
}

// Where a plain kernel leaves a chunk's part of a result.
__device__ __forceinline__ int64_t partial_index(const AttentionCall &call, int row, int head, int chunk) {
    const int64_t chunks = (static_cast<int64_t>(row) * call.q_heads + head) * call.chunks + chunk;
    return chunks * (call.head_dim + kStateFloats);
}

// Where a head's feature of a result goes. Features next to each other stay so only where nothing is to be moved.
__device__ __forceinline__ int64_t result_index(const AttentionCall &call, int row, int head, int feature) {
    const int column = head * call.head_dim + feature;
    const int64_t first = static_cast<int64_t>(row) * call.q_heads * call.head_dim;
    return first + (call.places == nullptr ? column : call.places[column]);
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
