// Attention on tensor cores, in the pieces that decode.cuh and prompt.cuh share: a tile of 16 queries against a chunk of 128
// positions. Queries, keys and values lie in shared memory as they do in the cache; scores and sums are float32.
//
//   scores  [16 queries][8 positions] += Q [16][16 features] * K^T          a chain over the features
//   weights  2^(score - largest of the chunk), in the cache's type: bfloat16 as a sum of two, so that none is far off
//   sums    [16 queries][8 features]  += weights [16][16 positions] * V     a chain over the chunk's positions, from 0
//   sum of weights: the same with a V of ones, so that weights are normalised as they are rounded
//
// Every number of a chunk is computed by one chain of these instructions, whichever warp has it, and depends on its own
// query alone: so do results, in every kernel.
#pragma once

#include "../common/async_copy.cuh"
#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "../common/mma.cuh"
#include "../common/warp.cuh"
#include "softmax.cuh"

namespace quire {

// What a block may have on every card since sm_80.
constexpr size_t kSharedBytesEverywhere = 99 * 1024;

constexpr int kTileQueries = 16;
static_assert(kTileQueries == kDecodeRows);
constexpr int kTilePositions = 8;
constexpr int kSteps = kChunk / 16;  // of a chain over positions

template <typename T>
struct Element;

template <>
struct Element<__half> {
    static constexpr int kTerms = 1;  // whose sum is a weight
    static constexpr uint32_t kOnes = 0x3c003c00u;
    __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_f16(d, a, b);
    }
};

template <>
struct Element<__nv_bfloat16> {
    static constexpr int kTerms = 2;
    static constexpr uint32_t kOnes = 0x3f803f80u;
    __device__ __forceinline__ static void multiply(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
        mma_bf16(d, a, b);
    }
};

// Weights of 16 queries and 16 positions, as first operands of the matrix instruction.
template <typename T>
using Weights = uint32_t[Element<T>::kTerms][4];

// Where the 16 bytes of a row of kDim features stand in shared memory: eight rows' loads meet no bank twice.
template <int kDim>
__device__ __forceinline__ int quad_index(int row, int quad) {
    return row * (kDim / 8) + (quad ^ (row % 8));
}

// Begins to copy a chunk of keys or values, kAhead copies of a thread at a time; zeros where a cache row is -1, and beyond
// head_dim.
template <int kDim, int kThreads, int kAhead>
__device__ __forceinline__ void fetch_chunk(const void *cache, const int *cache_rows, int head_dim, uint4 *chunk) {
    constexpr int kQuads = kDim / 8;
    QUIRE_UNROLL(kAhead)
    for (int i = threadIdx.x; i < kChunk * kQuads; i += kThreads) {
        const int position = i / kQuads, quad = i % kQuads;
        const int cache_row = cache_rows[position];
        const bool wanted = cache_row >= 0 && 8 * quad < head_dim;
        const int64_t offset = wanted ? static_cast<int64_t>(cache_row) * head_dim + 8 * quad : 0;
        copy_async_16(chunk + quad_index<kDim>(position, quad), static_cast<const uint16_t *>(cache) + offset, wanted);
    }
}

// A tile's row among the queries of a sequence that share a key head.
struct TileRow {
    int token, head;  // of the sequence's rows; of all heads
    bool exists;
};

__device__ __forceinline__ TileRow tile_row(const AttentionCall &call, Packing packing, int kv_head, int head_tile,
                                            int first_token, int tokens, int row) {
    const int shared_by = call.q_heads / call.kv_heads;
    const int token = first_token + row / packing.heads, head = head_tile * packing.heads + row % packing.heads;
    return {token, kv_head * shared_by + head, row / packing.heads < packing.tokens && token < tokens && head < shared_by};
}

// Begins to copy `count` rows of queries; zeros where there is none. `find` gives the TileRow of a row.
template <int kDim, int kThreads, typename Find>
__device__ __forceinline__ void fetch_queries(const AttentionCall &call, int first_row, int count, Find find,
                                              uint4 *queries) {
    constexpr int kQuads = kDim / 8;
    for (int i = threadIdx.x; i < count * kQuads; i += kThreads) {
        const int row = i / kQuads, quad = i % kQuads;
        const TileRow at = find(row);
        const bool wanted = at.exists && 8 * quad < call.head_dim;
        const int64_t vector = static_cast<int64_t>(first_row + at.token) * call.q_heads + at.head;
        const int64_t offset = wanted ? vector * call.head_dim + 8 * quad : 0;
        copy_async_16(queries + quad_index<kDim>(row, quad), static_cast<const uint16_t *>(call.q) + offset, wanted);
    }
}

// Products of 16 queries with 8 * kTiles keys; rows of `keys` count from a multiple of 8.
template <typename T, int kDim, int kTiles>
__device__ __forceinline__ void score(const uint4 *queries, const uint4 *keys, float (&scores)[kTiles][4]) {
    static_assert(kTiles % 2 == 0);
    const int row = lane_index() % 8, matrix = lane_index() / 8;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
        for (int i = 0; i < 4; ++i) scores[tile][i] = 0.0f;
    }
#pragma unroll
    for (int k = 0; k < kDim / 16; ++k) {
        uint32_t a[4];
        load_matrices<4>(a, queries + quad_index<kDim>(matrix % 2 * 8 + row, 2 * k + matrix / 2));
#pragma unroll
        for (int tile = 0; tile < kTiles; tile += 2) {
            uint32_t b[4];
            load_matrices<4>(b, keys + quad_index<kDim>((tile + matrix / 2) * 8 + row, 2 * k + matrix % 2));
            Element<T>::multiply(scores[tile], a, {b[0], b[1]});
            Element<T>::multiply(scores[tile + 1], a, {b[2], b[3]});
        }
    }
}

// Scales scores, whose first position is given; those that a lane's two rows (lane / 4, and 8 more) do not see become
// -inf.
template <int kTiles>
__device__ __forceinline__ void scale_and_hide(float scale, int position, const Visible (&visible)[2],
                                               float (&scores)[kTiles][4]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = position + tile * kTilePositions + lane_index() % 4 * 2 + i % 2;
            const bool seen = at >= visible[i / 2].first && at <= visible[i / 2].last;
            scores[tile][i] = seen ? __fmul_rn(scores[tile][i], scale) : -INFINITY;
        }
    }
}

// The same where all is seen.
template <int kTiles>
__device__ __forceinline__ void scale_all(float scale, float (&scores)[kTiles][4]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) scores[tile][i] = __fmul_rn(scores[tile][i], scale);
    }
}

// The largest score of a lane's row 0 or 1, the same in the four lanes that share it.
template <int kTiles>
__device__ __forceinline__ float largest_score(const float (&scores)[kTiles][4], int row) {
    float largest = -INFINITY;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
        largest = fmaxf(largest, fmaxf(scores[tile][2 * row], scores[tile][2 * row + 1]));
    }
    largest = fmaxf(largest, shuffle_xor(largest, 1));
    return fmaxf(largest, shuffle_xor(largest, 2));
}

// Two tiles of scores, given the largest of the chunk for both rows of the lane, become weights.
template <typename T>
__device__ __forceinline__ void weigh(const float (&first)[4], const float (&second)[4], const float (&largest)[2],
                                      Weights<T> &weights) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int row = i % 2;
        const float base = largest[row] == -INFINITY ? 0.0f : largest[row];
        const float *pair = (i < 2 ? first : second) + 2 * row;
        float low = fast_exp2(__fadd_rn(pair[0], -base)), high = fast_exp2(__fadd_rn(pair[1], -base));
#pragma unroll
        for (int term = 0; term < Element<T>::kTerms; ++term) {
            const T rounded_low = from_float<T>(low), rounded_high = from_float<T>(high);
            weights[term][i] = pack(rounded_low, rounded_high);
            low -= to_float(rounded_low);
            high -= to_float(rounded_high);
        }
    }
}

// Sums of a chunk's weights, and of its values in 16 features from 16 * pair: what the two tiles of 8 hold.
template <typename T>
__device__ __forceinline__ void sum_weights(const Weights<T> (&weights)[kSteps], float (&sums)[4]) {
    for (int i = 0; i < 4; ++i) sums[i] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
        for (int term = 0; term < Element<T>::kTerms; ++term) {
            Element<T>::multiply(sums, weights[step][term], {Element<T>::kOnes, Element<T>::kOnes});
        }
    }
}

template <typename T, int kDim>
__device__ __forceinline__ void sum_values(const Weights<T> (&weights)[kSteps], const uint4 *values, int pair,
                                           float (&sums)[2][4]) {
    const int row = lane_index() % 8, matrix = lane_index() / 8;
    for (int i = 0; i < 4; ++i) sums[0][i] = sums[1][i] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
        uint32_t b[4];
        load_matrices_transposed<4>(
            b, values + quad_index<kDim>(16 * step + matrix % 2 * 8 + row, 2 * pair + matrix / 2));
#pragma unroll
        for (int term = 0; term < Element<T>::kTerms; ++term) {
            Element<T>::multiply(sums[0], weights[step][term], {b[0], b[1]});
            Element<T>::multiply(sums[1], weights[step][term], {b[2], b[3]});
        }
    }
}

// Where a query's vector begins in q, and in out where nothing is moved.
__device__ __forceinline__ int64_t vector_offset(const AttentionCall &call, int row, int head) {
    return (static_cast<int64_t>(row) * call.q_heads + head) * call.head_dim;
}

// Two neighbouring features of a result, the first of them even.
template <typename T>
__device__ __forceinline__ void store_pair(const AttentionCall &call, int64_t vector, int head, int feature, float first,
                                           float second) {
    if (call.places == nullptr) {
        store<uint32_t>(static_cast<T *>(call.out) + vector + feature, pack(from_float<T>(first), from_float<T>(second)));
        return;
    }
    const int column = head * call.head_dim;
    const uint2 places = load<uint2>(call.places + column + feature);
    T *const out = static_cast<T *>(call.out) + vector - column;
    out[places.x] = from_float<T>(first);
    out[places.y] = from_float<T>(second);
}

}  // namespace quire
