// Paged attention of single queries, for caches of any type on any card: the way for what decode.cuh and prompt.cuh do not
// take (float32 caches, queries of another type than the cache, cards before sm_80). One block computes a query's heads that share one key head ("grouped queries"), so
// that every key and value is read once for all of them, over one chunk of 128 positions or over all chunks in turn.
//
//   a block, head_dim 128:  8 groups of 16 lanes; a lane holds 8 neighbouring features, a group one position
//
//     position   0 1 2 3 4 5 6 7 | 8 9 …          group g takes positions g, g + 8, g + 16 … of the chunk
//     group      0 1 2 3 4 5 6 7 | 0 1 …          a warp's loads are one run of 512 bytes, while a cache block lasts
//
//   1  scores[position][head] = q · k              a group adds up over its lanes
//   2  largest score and sum of each head          a warp per head; scores become weights 2^(score - largest)
//   3  acc[head][feature] += weight * v            each group over its own positions
//   4  groups' sums are added in order, and merged with the chunks before
//
// Chunks are counted from absolute position 0 and merged in order, so a result depends neither on the batch nor on
// which of the two ways was taken. Everything is float32 but what is read and written.
#pragma once

#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "../common/warp.cuh"
#include "softmax.cuh"

namespace quire {

constexpr int kAttentionThreads = 128;
constexpr int kFeatures = 8;  // of one lane

template <typename Cache>
__device__ __forceinline__ void load_features(const Cache *row, float (&values)[kFeatures]) {
    constexpr int kLoads = kFeatures * sizeof(Cache) / 16;
    union {
        uint4 words[kLoads];
        Cache elements[kFeatures];
    } loaded;
    for (int i = 0; i < kLoads; ++i) loaded.words[i] = load<uint4>(row + i * (16 / sizeof(Cache)));
    for (int i = 0; i < kFeatures; ++i) values[i] = to_float(loaded.elements[i]);
}

// How a block of one kernel divides its work. kDim: head_dim or the next larger of 64, 128, 256. kHeads: query heads
// computed together.
template <typename Cache_, int kDim_, int kHeads_>
struct Split {
    using Cache = Cache_;
    static constexpr int kDim = kDim_, kHeads = kHeads_;
    static constexpr int kLanes = kDim / kFeatures;  // of a group
    static constexpr int kGroups = kAttentionThreads / kLanes;
    static constexpr int kResults = kHeads * kDim;
    static constexpr int kLoadsAhead = kResults < 1024 ? 4 : 2;  // what registers allow
    static constexpr int kBlocks = kHeads == 1 ? 6 : kHeads == 4 ? 3 : 2;  // per processor, which bounds registers
    static constexpr int kResultsPerThread = (kResults + kAttentionThreads - 1) / kAttentionThreads;

    __device__ __forceinline__ static int lane() { return threadIdx.x % kLanes; }
    __device__ __forceinline__ static int group() { return threadIdx.x / kLanes; }
};

// The features of this lane at a row of the cache; zeros where there is no row, or the head is narrower.
template <typename S>
__device__ __forceinline__ void load_row(const void *cache, int cache_row, int head_dim, float (&values)[kFeatures]) {
    for (int i = 0; i < kFeatures; ++i) values[i] = 0.0f;
    if (cache_row < 0 || S::lane() * kFeatures >= head_dim) return;
    const int64_t offset = static_cast<int64_t>(cache_row) * head_dim + S::lane() * kFeatures;
    load_features(static_cast<const typename S::Cache *>(cache) + offset, values);
}

// Step 1: queries [kHeads][kDim], cache_rows [kChunk], to scores [kChunk][kHeads].
template <typename S>
__device__ __forceinline__ void score_keys(const AttentionCall &call, const float *queries, const int *cache_rows,
                                           float *scores) {
    float q[S::kHeads][kFeatures];
    for (int head = 0; head < S::kHeads; ++head) {
        for (int i = 0; i < kFeatures; ++i) q[head][i] = queries[head * S::kDim + S::lane() * kFeatures + i];
    }
    QUIRE_UNROLL(S::kLoadsAhead)
    for (int position = S::group(); position < kChunk; position += S::kGroups) {
        const int cache_row = cache_rows[position];
        float k[kFeatures];
        load_row<S>(call.k_cache, cache_row, call.head_dim, k);
        for (int head = 0; head < S::kHeads; ++head) {
            float score = 0.0f;
            for (int i = 0; i < kFeatures; ++i) score += q[head][i] * k[i];
            for (int mask = S::kLanes / 2; mask > 0; mask /= 2) score += shuffle_xor(score, mask);
            if (S::lane() == 0) scores[position * S::kHeads + head] = cache_row >= 0 ? score : -INFINITY;
        }
    }
}

// Step 2: scores become weights in place. states [kHeads] become those of the chunk where it has a block of its own;
// elsewhere the chunk is merged into them, and factors [kHeads] are what that does to sums.
template <typename S>
__device__ __forceinline__ void weigh_positions(bool split, float *scores, SoftmaxState *states, MergeFactors *factors) {
    for (int head = warp_index(); head < S::kHeads; head += kAttentionThreads / kWarp) {
        SoftmaxState state;
        for (int i = lane_index(); i < kChunk; i += kWarp) {
            state.largest = fmaxf(state.largest, scores[i * S::kHeads + head]);
        }
        state.largest = warp_max(state.largest);
        for (int i = lane_index(); i < kChunk; i += kWarp) {
            const float weight = fast_exp2(scores[i * S::kHeads + head] - state.largest);
            scores[i * S::kHeads + head] = weight;
            state.sum += weight;
        }
        state.sum = warp_sum(state.sum);
        if (lane_index() > 0) continue;
        if (split) states[head] = state;
        else factors[head] = merge(states[head], state);
    }
}

// Step 3: sums [kGroups][kHeads][kDim].
template <typename S>
__device__ __forceinline__ void sum_values(const AttentionCall &call, const float *weights, const int *cache_rows,
                                           float *sums) {
    float acc[S::kHeads][kFeatures] = {};
    QUIRE_UNROLL(S::kLoadsAhead)
    for (int position = S::group(); position < kChunk; position += S::kGroups) {
        float v[kFeatures];
        load_row<S>(call.v_cache, cache_rows[position], call.head_dim, v);
        for (int head = 0; head < S::kHeads; ++head) {
            const float weight = weights[position * S::kHeads + head];
            for (int i = 0; i < kFeatures; ++i) acc[head][i] += weight * v[i];
        }
    }
    for (int head = 0; head < S::kHeads; ++head) {
        float *target = sums + (S::group() * S::kHeads + head) * S::kDim + S::lane() * kFeatures;
        for (int i = 0; i < kFeatures; ++i) target[i] = acc[head][i];
    }
}

// Step 4, where the chunk has a block of its own: its sum and state go to memory.
template <typename S>
__device__ __forceinline__ void store_partial(const AttentionCall &call, float *partial, int feature, float sum,
                                              SoftmaxState state) {
    if (feature < call.head_dim) partial[feature] = sum;
    if (feature > 0) return;
    partial[call.head_dim] = state.largest;
    partial[call.head_dim + 1] = state.sum;
}

template <typename S>
__global__ void __launch_bounds__(kAttentionThreads, S::kBlocks) attend_chunks(AttentionCall call) {
    QUIRE_SHARED(float, queries, S::kResults);
    QUIRE_SHARED(float, weights, kChunk *S::kHeads);
    QUIRE_SHARED(float, sums, S::kGroups *S::kResults);
    QUIRE_SHARED(SoftmaxState, states, S::kHeads);
    QUIRE_SHARED(MergeFactors, factors, S::kHeads);
    QUIRE_SHARED(int, cache_rows, kChunk);
    static_assert(kChunk == kAttentionThreads, "a thread looks up one position");

    const Query query = find_query(call, blockIdx.x);
    const bool split = call.split;
    const Visible visible = query.visible;
    const int begin = split ? static_cast<int>(blockIdx.z) : visible.first_chunk();
    const int end = split ? begin : visible.last_chunk();
    if (!query.exists() || begin < visible.first_chunk() || end > visible.last_chunk()) return;

    const int shared_by = call.q_heads / call.kv_heads;
    const int tiles = (shared_by + S::kHeads - 1) / S::kHeads;
    const int kv_head = blockIdx.y / tiles;
    const int first_head = kv_head * shared_by + blockIdx.y % tiles * S::kHeads;
    const int heads = min(S::kHeads, (kv_head + 1) * shared_by - first_head);
    const int64_t first_feature = (static_cast<int64_t>(blockIdx.x) * call.q_heads + first_head) * call.head_dim;

    for (int i = threadIdx.x; i < S::kResults; i += kAttentionThreads) {
        const int head = i / S::kDim, feature = i % S::kDim;
        const bool real = head < heads && feature < call.head_dim;
        const int64_t index = first_feature + head * call.head_dim + feature;
        queries[i] = real ? load_activation(call.q, index, call.dtype) * call.scale : 0.0f;
    }
    if (threadIdx.x < S::kHeads) states[threadIdx.x] = SoftmaxState();
    float results[S::kResultsPerThread] = {};
    for (int chunk = begin; chunk <= end; ++chunk) {
        cache_rows[threadIdx.x] = find_cache_row(call, query.sequence, kv_head, visible, chunk * kChunk + threadIdx.x);
        block_sync();
        score_keys<S>(call, queries, cache_rows, weights);
        block_sync();
        weigh_positions<S>(split, weights, states, factors);
        block_sync();
        sum_values<S>(call, weights, cache_rows, sums);
        block_sync();
        QUIRE_UNROLL(S::kResultsPerThread)
        for (int i = 0; i < S::kResultsPerThread; ++i) {
            const int index = threadIdx.x + i * kAttentionThreads, head = index / S::kDim, feature = index % S::kDim;
            if (head >= heads) continue;
            float sum = 0.0f;
            for (int group = 0; group < S::kGroups; ++group) sum += sums[group * S::kResults + index];
            if (split) {
                float *partial = call.workspace + partial_index(call, blockIdx.x, first_head + head, chunk);
                store_partial<S>(call, partial, feature, sum, states[head]);
            } else {
                results[i] = merge_value(results[i], sum, factors[head]);
            }
        }
    }
    if (split) return;
    QUIRE_UNROLL(S::kResultsPerThread)
    for (int i = 0; i < S::kResultsPerThread; ++i) {
        const int index = threadIdx.x + i * kAttentionThreads, head = index / S::kDim, feature = index % S::kDim;
        if (head >= heads || feature >= call.head_dim) continue;
        store_activation(call.out, result_index(call, blockIdx.x, first_head + head, feature), call.dtype,
                         results[i] / states[head].sum);
    }
}

template <typename Cache, int kDim, int kHeads>
int32_t launch_attend(void *stream, const AttentionCall &call) {
    const int shared_by = call.q_heads / call.kv_heads;
    const dim3 grid(call.rows, call.kv_heads * ((shared_by + kHeads - 1) / kHeads), call.split ? call.chunks : 1);
    return launch(attend_chunks<Split<Cache, kDim, kHeads>>, grid, dim3(kAttentionThreads), 0, stream, call);
}

template <typename Cache, int kDim>
int32_t attend_dim(void *stream, const AttentionCall &call) {
    const int shared_by = call.q_heads / call.kv_heads;
    if (shared_by == 1) return launch_attend<Cache, kDim, 1>(stream, call);
    if (shared_by <= 4) return launch_attend<Cache, kDim, 4>(stream, call);
    return launch_attend<Cache, kDim, 8>(stream, call);
}

template <typename Cache>
int32_t attend_plainly(void *stream, const AttentionCall &call) {
    if (call.head_dim <= 64) return attend_dim<Cache, 64>(stream, call);
    if (call.head_dim <= 128) return attend_dim<Cache, 128>(stream, call);
    return attend_dim<Cache, 256>(stream, call);
}

template <typename Cache, int kDim>
int32_t prepare_plain_dim() {
    return first_error(prepare(attend_chunks<Split<Cache, kDim, 1>>), prepare(attend_chunks<Split<Cache, kDim, 4>>),
                       prepare(attend_chunks<Split<Cache, kDim, 8>>));
}

template <typename Cache>
int32_t prepare_plain() {
    return first_error(prepare_plain_dim<Cache, 64>(), prepare_plain_dim<Cache, 128>(),
                       prepare_plain_dim<Cache, 256>());
}

}  // namespace quire
