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
__device__ void merge_parts(const AttentionCall &call, const float *parts, int64_t stride, int chunks, int64_t offset) {
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
        if (feature < call.head_dim) store_activation(call.out, offset + feature, call.dtype, values[own] / sum);
    }
}

__global__ void __launch_bounds__(kThreads) merge_plain(AttentionCall call) {
    const int row = blockIdx.x, head = blockIdx.y;
    const Query query = find_query(call, row);
    if (!query.exists()) return;
    const float *parts = call.workspace + partial_index(call, row, head, query.visible.first_chunk());
    merge_parts(call, parts, call.head_dim + kStateFloats, query.visible.chunks(),
                (static_cast<int64_t>(row) * call.q_heads + head) * call.head_dim);
}

__global__ void __launch_bounds__(kThreads) merge_decoded(AttentionCall call) {
    const int row = blockIdx.x, head = blockIdx.y;
    int all = 0, before = 0, found = -1;  // units of all sequences, and of those before this row's
    QUIRE_UNROLL(4)
    for (int index = lane_index(); index < call.sequences; index += kWarp) {
        const DecodeSequence sequence = read_sequence(call, index);
        const int units = sequence.units(true), end = sequence.rows.first + sequence.rows.count;
        all += units;
        if (end <= row) before += units;
        else if (sequence.tiles > 0 && sequence.rows.first <= row) found = index;
    }
    all = warp_sum(all);
    before = warp_sum(before);
    for (int mask = kWarp / 2; mask > 0; mask /= 2) found = max(found, shuffle_xor(found, mask));
    if (found < 0 || !is_split(call, all)) return;
    const DecodeSequence sequence = read_sequence(call, found);
    const int chunks = sequence.visible.chunks();
    if (chunks == 1) return;  // is there already

    const int shared_by = call.q_heads / call.kv_heads, within = head % shared_by;
    const int tile = head / shared_by * call.decode.tiles + within / call.decode.heads;
    const int tile_row = (row - sequence.rows.first) * call.decode.heads + within % call.decode.heads;
    const int64_t stride = static_cast<int64_t>(call.partial_rows) * (call.head_dim + kStateFloats);
    merge_parts(call, partial_row(call, before + tile * chunks, tile_row), stride, chunks,
                (static_cast<int64_t>(row) * call.q_heads + head) * call.head_dim);
}

dim3 one_block_for_each_head(const AttentionCall &call) {
    return dim3(static_cast<unsigned>(call.rows), static_cast<unsigned>(call.q_heads));
}

}  // namespace

int32_t merge_plain_chunks(void *stream, const AttentionCall &call) {
    return launch(merge_plain, one_block_for_each_head(call), dim3(kThreads), 0, stream, call);
}

int32_t merge_decoded_chunks(void *stream, const AttentionCall &call) {
    return launch(merge_decoded, one_block_for_each_head(call), dim3(kThreads), 0, stream, call);
}

int32_t prepare_merge() { return first_error(prepare(merge_plain), prepare(merge_decoded)); }

}  // namespace quire
