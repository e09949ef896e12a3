// Attention of sequences with few tokens, on tensor cores. A block goes through the chunks that work.cuh gives it; while it
// computes one, the keys and values of the next are on their way, which takes no registers:
//
//   shared memory      keys [128][head_dim]   values [128][head_dim]   queries [16][head_dim]
//
//   1  scores          each of 4 warps for 32 positions
//   2  largest score   of each query, over the warps
//   3  weights         each warp for its positions, handed round in shared memory
//   4  sums            each warp for a quarter of the features
//   5  out             a part to the workspace (merge.cu puts them together), or merged with the tile's chunks before
//
// The 16 rows of a tile are the heads that share a key head, for one token or a few. Rows that are not there cost nothing
// that matters: reading the cache takes the time.
#pragma once

#include "../common/shared_memory.cuh"
#include "tiles.cuh"
#include "work.cuh"

namespace quire {

constexpr int kDecodeWarps = 4;
constexpr int kDecodeThreads = kDecodeWarps * kWarp;
constexpr int kDecodeBlocksPerProcessor = 2;
static_assert(kChunk == kDecodeThreads, "a thread looks up one position");

template <int kDim>
struct DecodeShape {
    static constexpr int kBuffers = kDim <= 128 ? 2 : 1;  // of a chunk: keys and values, or each in turn
    static constexpr int kChunkQuads = kChunk * kDim / 8;
    static constexpr int kTiles = kChunk / kTilePositions / kDecodeWarps;  // of scores, for a warp
    static constexpr int kPairs = kDim / 16 / kDecodeWarps;                // of tiles of features, for a warp
    static constexpr size_t kSharedBytes = 16 * (kBuffers * kChunkQuads + kTileQueries * kDim / 8);
    static_assert(kSharedBytes + 10 * 1024 <= kSharedBytesEverywhere);
};

__device__ __forceinline__ int kv_head_of(const AttentionCall &call, const Cursor &at) {
    return at.tile / call.decode.tiles;
}

__device__ __forceinline__ TileRow decode_row(const AttentionCall &call, const Cursor &at, int row) {
    return tile_row(call, call.decode, kv_head_of(call, at), at.tile % call.decode.tiles, 0, at.sequence.rows.count, row);
}

// A warp's share of the sums of a tile: two tiles of 8 features each, lanes holding two neighbours of two rows.
template <int kDim>
using Sums = float[DecodeShape<kDim>::kPairs][2][4];

// The first of this lane's two features in a tile of 8.
template <int kDim>
__device__ __forceinline__ int feature_of(int tile) {
    return (warp_index() * DecodeShape<kDim>::kPairs * 2 + tile) * 8 + lane_index() % 4 * 2;
}

// Step 5, to the workspace: what the lane holds of its row 0 or 1.
template <int kDim>
__device__ __forceinline__ void leave_part(const AttentionCall &call, float *part, int row, SoftmaxState state,
                                           const Sums<kDim> &sums) {
#pragma unroll
    for (int tile = 0; tile < 2 * DecodeShape<kDim>::kPairs; ++tile) {
        const float *pair = &sums[tile / 2][tile % 2][2 * row];
        const int feature = feature_of<kDim>(tile);
        if (feature < call.head_dim) store(part + feature, make_float2(pair[0], pair[1]));
    }
    if (warp_index() == 0 && lane_index() % 4 == 0) {
        store(part + call.head_dim, make_float2(state.largest, state.sum));
    }
}

// Step 5, where this block has the tile's chunks before.
template <int kDim>
__device__ __forceinline__ void merge_in(int row, SoftmaxState coming, const Sums<kDim> &sums, SoftmaxState &state,
                                         Sums<kDim> &results) {
    const MergeFactors factors = merge(state, coming);
#pragma unroll
    for (int tile = 0; tile < 2 * DecodeShape<kDim>::kPairs; ++tile) {
        for (int i = 2 * row; i < 2 * row + 2; ++i) {
            float &result = results[tile / 2][tile % 2][i];
            result = merge_value(result, sums[tile / 2][tile % 2][i], factors);
        }
    }
}

template <typename T, int kDim>
__device__ __forceinline__ void store_result(const AttentionCall &call, int64_t vector, int head, int row, float sum,
                                             const Sums<kDim> &results) {
#pragma unroll
    for (int tile = 0; tile < 2 * DecodeShape<kDim>::kPairs; ++tile) {
        const float *pair = &results[tile / 2][tile % 2][2 * row];
        const int feature = feature_of<kDim>(tile);
        if (feature < call.head_dim) store_pair<T>(call, vector, head, feature, pair[0] / sum, pair[1] / sum);
    }
}

template <int kDim>
__device__ __forceinline__ void clear(int row, Sums<kDim> &results) {
#pragma unroll
    for (int tile = 0; tile < 2 * DecodeShape<kDim>::kPairs; ++tile) {
        results[tile / 2][tile % 2][2 * row] = results[tile / 2][tile % 2][2 * row + 1] = 0.0f;
    }
}

template <typename T, int kDim>
__global__ void __launch_bounds__(kDecodeThreads, kDecodeBlocksPerProcessor) decode(AttentionCall call) {
    using S = DecodeShape<kDim>;
    constexpr bool kTogether = S::kBuffers == 2;
    QUIRE_DYNAMIC_SHARED(uint4, shared);
    QUIRE_SHARED(int, cache_rows, 2 * kChunk);
    QUIRE_SHARED(float, maxima, kDecodeWarps *kTileQueries);
    QUIRE_SHARED(uint4, handed_round, kSteps *Element<T>::kTerms *kWarp);
    uint4 *const keys = shared, *const values = keys + (S::kBuffers - 1) * S::kChunkQuads;
    uint4 *const queries = keys + S::kBuffers * S::kChunkQuads;
    const int lane = lane_index(), warp = warp_index(), thread = threadIdx.x;

    const auto look_up = [&](const Cursor &at) {
        return find_cache_row(call, at.index, kv_head_of(call, at), at.sequence.visible, at.chunk * kChunk + thread);
    };
    const auto fetch_keys = [&](const Cursor &at, const int *rows) {
        if (at.exists()) {
            const auto find = [&](int row) { return decode_row(call, at, row); };
            fetch_queries<kDim, kDecodeThreads>(call, at.sequence.rows.first, kTileQueries, find, queries);
            fetch_chunk<kDim, kDecodeThreads, 4>(call.k_cache, rows, call.head_dim, keys);
        }
        copy_async_commit();
    };
    const auto fetch_values = [&](const Cursor &at, const int *rows) {
        if (at.exists()) fetch_chunk<kDim, kDecodeThreads, 4>(call.v_cache, rows, call.head_dim, values);
        copy_async_commit();
    };

    Cursor next = first_chunk_of_block(call);
    if (!next.exists()) return;
    int *rows = cache_rows, *next_rows = rows + kChunk;
    rows[thread] = look_up(next);
    block_sync();
    fetch_keys(next, rows);
    if (kTogether) fetch_values(next, rows);

    SoftmaxState states[2];
    Sums<kDim> results = {};
    while (next.exists()) {
        const Cursor now = next;
        next.advance(call);
        const int upcoming = next.exists() ? look_up(next) : -1;
        copy_async_wait<S::kBuffers - 1>();
        block_sync();

        float scores[S::kTiles][4], largest[2];
        const int first_tile = warp * S::kTiles;
        score<T, kDim, S::kTiles>(queries, keys + quad_index<kDim>(first_tile * kTilePositions, 0), scores);
        Visible visible[2];
        for (int i = 0; i < 2; ++i) {
            const TileRow at = decode_row(call, now, lane / 4 + 8 * i);
            if (at.exists) visible[i] = seen_from(call, now.sequence.rows.position + at.token);
        }
        scale_and_hide<S::kTiles>(call.scale, now.chunk * kChunk + first_tile * kTilePositions, visible, scores);
        for (int i = 0; i < 2; ++i) {
            largest[i] = largest_score<S::kTiles>(scores, i);
            if (lane % 4 == 0) maxima[warp * kTileQueries + lane / 4 + 8 * i] = largest[i];
        }
        next_rows[thread] = upcoming;
        block_sync();  // keys and queries have been used
        if (kTogether) fetch_keys(next, next_rows);
        else fetch_values(now, rows);

        for (int i = 0; i < 2; ++i) {
            for (int other = 0; other < kDecodeWarps; ++other) {
                largest[i] = fmaxf(largest[i], maxima[other * kTileQueries + lane / 4 + 8 * i]);
            }
        }
#pragma unroll
        for (int tile = 0; tile < S::kTiles; tile += 2) {
            Weights<T> own;
            weigh<T>(scores[tile], scores[tile + 1], largest, own);
            for (int term = 0; term < Element<T>::kTerms; ++term) {
                const int step = (first_tile + tile) / 2;
                handed_round[(step * Element<T>::kTerms + term) * kWarp + lane] =
                    make_uint4(own[term][0], own[term][1], own[term][2], own[term][3]);
            }
        }
        copy_async_wait<S::kBuffers - 1>();
        block_sync();

        Weights<T> weights[kSteps];
#pragma unroll
        for (int step = 0; step < kSteps; ++step) {
#pragma unroll
            for (int term = 0; term < Element<T>::kTerms; ++term) {
                const uint4 words = handed_round[(step * Element<T>::kTerms + term) * kWarp + lane];
                weights[step][term][0] = words.x;
                weights[step][term][1] = words.y;
                weights[step][term][2] = words.z;
                weights[step][term][3] = words.w;
            }
        }
        float total[4];
        Sums<kDim> sums;
        sum_weights<T>(weights, total);
#pragma unroll
        for (int pair = 0; pair < S::kPairs; ++pair) {
            sum_values<T, kDim>(weights, values, warp * S::kPairs + pair, sums[pair]);
        }
        block_sync();  // values have been used
        if (kTogether) fetch_values(next, next_rows);
        else fetch_keys(next, next_rows);
        int *const swapped = rows;
        rows = next_rows;
        next_rows = swapped;

        const bool to_workspace = now.split && now.sequence.visible.chunks() > 1;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int row = lane / 4 + 8 * i;
            const TileRow at = decode_row(call, now, row);
            SoftmaxState coming;
            coming.largest = largest[i];
            coming.sum = total[2 * i];
            if (to_workspace) {
                if (at.exists) leave_part<kDim>(call, partial_row(call, now.unit, row), i, coming, sums);
                continue;
            }
            merge_in<kDim>(i, coming, sums, states[i], results);
            if (!now.is_last_of_tile()) continue;
            if (at.exists) {
                const int64_t vector = vector_offset(call, now.sequence.rows.first + at.token, at.head);
                store_result<T, kDim>(call, vector, at.head, i, states[i].sum, results);
            }
            states[i] = SoftmaxState();
            clear<kDim>(i, results);
        }
    }
}

template <typename T, int kDim>
int32_t launch_decode(void *stream, const AttentionCall &call) {
    const dim3 grid(static_cast<unsigned>(call.processors * kDecodeBlocksPerProcessor));
    return launch(decode<T, kDim>, grid, dim3(kDecodeThreads), DecodeShape<kDim>::kSharedBytes, stream, call);
}

template <typename T>
int32_t decode_any(void *stream, const AttentionCall &call) {
    if (call.head_dim <= 64) return launch_decode<T, 64>(stream, call);
    if (call.head_dim <= 128) return launch_decode<T, 128>(stream, call);
    return launch_decode<T, 256>(stream, call);
}

template <typename T>
int32_t prepare_decode() {
    return first_error(prepare(decode<T, 64>, DecodeShape<64>::kSharedBytes),
                       prepare(decode<T, 128>, DecodeShape<128>::kSharedBytes),
                       prepare(decode<T, 256>, DecodeShape<256>::kSharedBytes));
}

}  // namespace quire
