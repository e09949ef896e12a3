// Putting chunks together that were computed by themselves: one block for each query head. What each chunk's part counts
// for depends on the largest scores alone and is found for many chunks at a time; adding up, in their order, is then one
// multiply-add a chunk.
#include "../common/launch.cuh"
#include "attention.h"
#include "work.cuh"

namespace quire {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;
constexpr int kBlocksPerProcessor = 8;  // bounds registers, of which a guess gives too few
constexpr int kLoadsAhead = 16;

// The largest of what the block's threads up to this one bring, and `before`; all threads' becomes the next `before`.
struct RunningMax {
    float exclusive, inclusive;
};

__device__ __forceinline__ RunningMax running_max(float value, float &before, float *warp_maxima) {
    for (int delta = 1; delta < kWarp; delta *= 2) value = fmaxf(value, shuffle_up(value, delta));
    if (lane_index() == kWarp - 1) warp_maxima[warp_index()] = value;
    block_sync();
    float earlier = before;
    for (int warp = 0; warp < kWarps; ++warp) {
        if (warp < warp_index()) earlier = fmaxf(earlier, warp_maxima[warp]);
        before = fmaxf(before, warp_maxima[warp]);
    }
    const float previous = shuffle_up(value, 1);
    return {lane_index() > 0 ? fmaxf(earlier, previous) : earlier, fmaxf(earlier, value)};
}

// Writes a result from the parts of `chunks` chunks, `stride` floats from one to the next.
__device__ void merge_parts(const AttentionCall &call, const float *parts, int64_t stride, int chunks, int row, int head) {
    QUIRE_SHARED(MergeFactors, factors, kThreads);
    QUIRE_SHARED(float, chunk_sums, kThreads);
    QUIRE_SHARED(float, warp_maxima, kWarps);
    constexpr int kMost = 2;  // features of a thread: head_dim is at most 256
    float values[kMost] = {}, sum = 0.0f, largest = -INFINITY;
    for (int first = 0; first < chunks; first += kThreads) {
        const int mine = first + static_cast<int>(threadIdx.x), count = min(kThreads, chunks - first);
        const float *state = parts + mine * stride + call.head_dim;
        const float coming = mine < chunks ? state[0] : -INFINITY;
        const RunningMax maximum = running_max(coming, largest, warp_maxima);
        factors[threadIdx.x] = merge_factors(maximum.exclusive, coming, maximum.inclusive);
        chunk_sums[threadIdx.x] = mine < chunks ? state[1] : 0.0f;
        block_sync();
        for (int i = 0; i < count; ++i) sum = merge_value(sum, chunk_sums[i], factors[i]);
        for (int own = 0; own < kMost; ++own) {
            const int feature = own * kThreads + static_cast<int>(threadIdx.x);
            if (feature >= call.head_dim) continue;
            QUIRE_UNROLL(kLoadsAhead)
            for (int i = 0; i < count; ++i) {
                values[own] = merge_value(values[own], parts[(first + i) * stride + feature], factors[i]);
            }
        }
        block_sync();  // factors and maxima may be written again
    }
    for (int own = 0; own < kMost; ++own) {
        const int feature = own * kThreads + static_cast<int>(threadIdx.x);
        if (feature >= call.head_dim) continue;
        store_activation(call.out, result_index(call, row, head, feature), call.dtype, values[own] / sum);
    }
}

__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) merge_plain(AttentionCall call) {
    const int row = blockIdx.x, head = blockIdx.y;
    const Query query = find_query(call, row);
    if (!query.exists()) return;
    const float *parts = call.workspace + partial_index(call, row, head, query.visible.first_chunk());
    merge_parts(call, parts, call.head_dim + kStateFloats, query.visible.chunks(), row, head);
}

// Blocks count tokens as if every sequence had as many as decoding takes.
__global__ void __launch_bounds__(kThreads, kBlocksPerProcessor) merge_decoded(AttentionCall call, int tokens) {
    const int index = blockIdx.x / tokens, token = blockIdx.x % tokens, head = blockIdx.y;
    const DecodeSequence sequence = read_sequence(call, index);
    const int chunks = sequence.visible.chunks();
    if (sequence.tiles == 0 || token >= sequence.rows.count || chunks == 1) return;  // one chunk is there already
    int all = 0, before = 0;  // units of all sequences, and of those before this one
    QUIRE_UNROLL(4)
    for (int other = lane_index(); other < call.sequences; other += kWarp) {
        const int units = read_sequence(call, other).units(true);
        all += units;
        if (other < index) before += units;
    }
    all = warp_sum(all);
    before = warp_sum(before);
    if (!is_split(call, all)) return;

    const int shared_by = call.q_heads / call.kv_heads, within = head % shared_by;
    const int tile = head / shared_by * call.decode.tiles + within / call.decode.heads;
    const int tile_row = token * call.decode.heads + within % call.decode.heads;
    const int64_t stride = static_cast<int64_t>(call.partial_rows) * (call.head_dim + kStateFloats);
    merge_parts(call, partial_row(call, before + tile * chunks, tile_row), stride, chunks,
                sequence.rows.first + token, head);
}

dim3 blocks_for_heads(const AttentionCall &call, int tokens) {
    return dim3(static_cast<unsigned>(tokens), static_cast<unsigned>(call.q_heads));
}

}  // namespace

int32_t merge_plain_chunks(void *stream, const AttentionCall &call) {
    return launch(merge_plain, blocks_for_heads(call, call.rows), dim3(kThreads), 0, stream, call);
}

int32_t merge_decoded_chunks(void *stream, const AttentionCall &call) {
    const int tokens = call.partial_rows / call.decode.heads;
    return launch(merge_decoded, blocks_for_heads(call, call.sequences * tokens), dim3(kThreads), 0, stream, call,
                  tokens);
}

int32_t prepare_merge() { return first_error(prepare(merge_plain), prepare(merge_decoded)); }

}  // namespace quire
