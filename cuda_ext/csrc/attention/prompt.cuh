// Attention of sequences with many tokens, on tensor cores. A block takes a tile of queries (tokens, each with all heads
// that share a key head), a warp 16 rows of it, and goes through the chunks that any of them sees. While one is computed,
// the next is on its way. The chunk of a warp is that of decode.cuh to the bit, and chunks are merged in the same order: a
// token's result is the same whether it comes in a prompt, in a piece of one, or alone.
#pragma once

#include <algorithm>

#include "../common/shared_memory.cuh"
#include "tiles.cuh"

namespace quire {

template <int kDim>
struct PromptShape {
    static constexpr int kWarps = 8, kThreads = kWarps * kWarp;
    static constexpr int kParts = kDim <= 128 ? 1 : 2;  // warps that share rows: each has scores, and its part of features
    static constexpr int kRows = kWarps / kParts * kTileQueries;
    static constexpr int kBuffers = kDim <= 128 ? 2 : 1;  // of a chunk: keys and values, or each in turn
    static constexpr int kAhead = kDim <= 128 ? 1 : 2;    // copies begun together, as registers allow
    static constexpr int kChunkQuads = kChunk * kDim / 8;
    static constexpr int kTiles = kChunk / kTilePositions;
    static constexpr int kPairs = kDim / 16 / kParts;  // of tiles of features, for a warp
    static constexpr size_t kSharedBytes = 16 * (kBuffers * kChunkQuads + kRows * kDim / 8);
    static_assert(kSharedBytes + 2 * 1024 <= kSharedBytesEverywhere);
};

// A run of tokens of one sequence.
struct PromptTile {
    int sequence = -1;
    Rows rows;
    int first_token = 0;
};

// The block's tile; a launch has more blocks than there are tiles. All lanes of the block's warps call this.
__device__ __forceinline__ PromptTile find_tile(const AttentionCall &call, int index) {
    int before = 0;
    for (int first = 0; first < call.sequences; first += kWarp) {
        const int own = first + lane_index();
        const int count = own < call.sequences ? rows_of(call, own).count : 0;
        const int tiles = count > call.decode.tokens ? (count + call.prompt.tokens - 1) / call.prompt.tokens : 0;
        const int through = before + warp_running_sum(tiles);
        const unsigned beyond = ballot(through > index);
        if (beyond != 0) {
            const int lane = __ffs(static_cast<int>(beyond)) - 1;
            PromptTile tile;
            tile.sequence = first + lane;
            tile.rows = rows_of(call, tile.sequence);
            tile.first_token = (index - shuffle(through - tiles, lane)) * call.prompt.tokens;
            return tile;
        }
        before = shuffle(through, kWarp - 1);
    }
    return {};
}

template <typename T, int kDim>
__global__ void __launch_bounds__(PromptShape<kDim>::kThreads, 1) attend_prompts(AttentionCall call) {
    using S = PromptShape<kDim>;
    constexpr bool kTogether = S::kBuffers == 2;
    QUIRE_DYNAMIC_SHARED(uint4, shared);
    QUIRE_SHARED(int, cache_rows, 2 * kChunk);
    QUIRE_SHARED(int, positions, S::kRows);  // of each row's token, or the last there is
    uint4 *const keys = shared, *const values = keys + (S::kBuffers - 1) * S::kChunkQuads;
    uint4 *const queries = keys + S::kBuffers * S::kChunkQuads;
    const int lane = lane_index(), thread = threadIdx.x;
    const int first_row = warp_index() / S::kParts * kTileQueries, first_pair = warp_index() % S::kParts * S::kPairs;

    // Blocks start in order, and the last tiles of a sequence see most: they begin first.
    const PromptTile tile = find_tile(call, static_cast<int>(gridDim.x - 1 - blockIdx.x));
    if (tile.sequence < 0) return;
    const int kv_head = blockIdx.y / call.prompt.tiles, head_tile = blockIdx.y % call.prompt.tiles;
    const auto find = [&](int row) {
        return tile_row(call, call.prompt, kv_head, head_tile, tile.first_token, tile.rows.count, row);
    };
    const auto position_of = [&](int token) { return tile.rows.position + min(token, tile.rows.count - 1); };
    const int last_token = tile.first_token + call.prompt.tokens - 1;
    const Visible all = {seen_from(call, position_of(tile.first_token)).first, position_of(last_token)};
    const auto look_up = [&](int chunk) {
        return find_cache_row(call, tile.sequence, kv_head, all, chunk * kChunk + thread);
    };
    const auto fetch = [&](const void *cache, const int *rows, uint4 *target) {
        fetch_chunk<kDim, S::kThreads, S::kAhead>(cache, rows, call.head_dim, target);
        copy_async_commit();
    };

    const auto rows_of_chunk = [&](int chunk) { return cache_rows + chunk % 2 * kChunk; };
    if (thread < kChunk) rows_of_chunk(all.first_chunk())[thread] = look_up(all.first_chunk());
    if (thread < S::kRows) positions[thread] = position_of(tile.first_token + thread / call.prompt.heads);
    block_sync();
    fetch_queries<kDim, S::kThreads>(call, tile.rows.first, S::kRows, find, queries);
    fetch(call.k_cache, rows_of_chunk(all.first_chunk()), keys);
    if (kTogether) fetch(call.v_cache, rows_of_chunk(all.first_chunk()), values);

    SoftmaxState states[2];
    float results[S::kPairs][2][4] = {};
    for (int chunk = all.first_chunk(); chunk <= all.last_chunk(); ++chunk) {
        const int first = chunk * kChunk, last = first + kChunk - 1;
        const bool more = chunk < all.last_chunk();
        if (more && thread < kChunk) rows_of_chunk(chunk + 1)[thread] = look_up(chunk + 1);
        copy_async_wait<S::kBuffers - 1>();
        block_sync();

        const Visible earliest = seen_from(call, positions[first_row]);
        const Visible latest = seen_from(call, positions[first_row + kTileQueries - 1]);
        const bool sees = first <= latest.last && last >= earliest.first;
        Weights<T> weights[kSteps];
        SoftmaxState coming[2];
        if (sees) {
            float scores[S::kTiles][4];
            score<T, kDim, S::kTiles>(queries + quad_index<kDim>(first_row, 0), keys, scores);
            if (first >= latest.first && last <= earliest.last) {
                scale_all<S::kTiles>(call.scale, scores);
            } else {
                const int row = first_row + lane / 4;
                const Visible visible[2] = {seen_from(call, positions[row]), seen_from(call, positions[row + 8])};
                scale_and_hide<S::kTiles>(call.scale, first, visible, scores);
            }
            const float largest[2] = {largest_score<S::kTiles>(scores, 0), largest_score<S::kTiles>(scores, 1)};
#pragma unroll
            for (int step = 0; step < kSteps; ++step) {
                weigh<T>(scores[2 * step], scores[2 * step + 1], largest, weights[step]);
            }
            for (int i = 0; i < 2; ++i) coming[i].largest = largest[i];
        }
        block_sync();  // keys have been used
        if (!kTogether) fetch(call.v_cache, rows_of_chunk(chunk), values);
        else if (more) fetch(call.k_cache, rows_of_chunk(chunk + 1), keys);
        else copy_async_commit();
        copy_async_wait<S::kBuffers - 1>();
        block_sync();

        if (sees) {
            float total[4];
            sum_weights<T>(weights, total);
            for (int i = 0; i < 2; ++i) coming[i].sum = total[2 * i];
            const MergeFactors factors[2] = {merge(states[0], coming[0]), merge(states[1], coming[1])};
#pragma unroll
            for (int pair = 0; pair < S::kPairs; ++pair) {
                float sums[2][4];
                sum_values<T, kDim>(weights, values, first_pair + pair, sums);
                for (int i = 0; i < 8; ++i) {
                    float &result = results[pair][i / 4][i % 4];
                    result = merge_value(result, sums[i / 4][i % 4], factors[i % 4 / 2]);
                }
            }
        }
        block_sync();  // values have been used
        if (!more) break;
        fetch(kTogether ? call.v_cache : call.k_cache, rows_of_chunk(chunk + 1), kTogether ? values : keys);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        const TileRow at = find(first_row + lane / 4 + 8 * i);
        if (!at.exists) continue;
        const int64_t vector = vector_offset(call, tile.rows.first + at.token, at.head);
        const int first = first_pair * 16 + lane % 4 * 2;
#pragma unroll
        for (int each = 0; each < 2 * S::kPairs; ++each) {
            const float *pair = &results[each / 2][each % 2][2 * i];
            const int feature = first + 8 * each;
            if (feature >= call.head_dim) continue;
            store_pair<T>(call, vector, at.head, feature, pair[0] / states[i].sum, pair[1] / states[i].sum);
        }
    }
}

template <typename T, int kDim>
int32_t launch_prompts(void *stream, AttentionCall call) {
    call.prompt = pack_queries(call, PromptShape<kDim>::kRows);
    // As many tiles as there can be: every prompt may end within one.
    const int prompts = std::min(call.sequences, call.rows / (call.decode.tokens + 1));
    const dim3 grid(call.rows / call.prompt.tokens + prompts, call.kv_heads * call.prompt.tiles);
    return launch(attend_prompts<T, kDim>, grid, dim3(PromptShape<kDim>::kThreads), PromptShape<kDim>::kSharedBytes,
                  stream, call);
}

template <typename T>
int32_t attend_prompts_any(void *stream, const AttentionCall &call) {
    if (call.head_dim <= 64) return launch_prompts<T, 64>(stream, call);
    if (call.head_dim <= 128) return launch_prompts<T, 128>(stream, call);
    return launch_prompts<T, 256>(stream, call);
}

template <typename T>
int32_t prepare_prompts() {
    return first_error(prepare(attend_prompts<T, 64>, PromptShape<64>::kSharedBytes),
                       prepare(attend_prompts<T, 128>, PromptShape<128>::kSharedBytes),
                       prepare(attend_prompts<T, 256>, PromptShape<256>::kSharedBytes));
}

}  // namespace quire
