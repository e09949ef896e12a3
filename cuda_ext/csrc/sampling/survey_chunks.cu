// Each chunk by itself: its tokens sorted into bins of weight, and the likeliest ones of the model's own logits.
#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "exchange.cuh"
#include "row.cuh"
#include "weights.cuh"

namespace quire::sampling {
namespace {

// Leaves in `starts` [kBins + 1] where each bin begins when the bins, of `counts` [kBins] tokens, lie one after the other.
__device__ __forceinline__ void find_starts(const uint32_t *counts, uint32_t *starts) {
    constexpr int kBinsPerThread = (kBins + kChunkThreads) / kChunkThreads;  // one entry more than bins
    const int begin = threadIdx.x * kBinsPerThread, end = min(begin + kBinsPerThread, kBins + 1);
    Mass sum = 0;
    for (int bin = begin; bin < end; ++bin) sum += bin < kBins ? counts[bin] : 0;
    Mass start = sum_before<kChunkThreads>(sum);
    for (int bin = begin; bin < end; ++bin) {
        starts[bin] = static_cast<uint32_t>(start);
        start += bin < kBins ? counts[bin] : 0;
    }
}

// Sorts the chunk by bins, in any order within one, and adds what is in its bins to the row's.
__device__ __forceinline__ void sort_chunk(const SamplingCall &call, const ChunkPlace &place, const float *logits,
                                           float largest, float temperature) {
    QUIRE_SHARED(uint32_t, counts, kBins);
    QUIRE_SHARED(uint32_t, rests, kBins);  // sums: 2048 times less than 2^19
    QUIRE_SHARED(uint32_t, starts, kBins + 1);
    QUIRE_SHARED(uint32_t, entries, kChunk);
    for (int bin = threadIdx.x; bin < kBins; bin += kChunkThreads) counts[bin] = rests[bin] = 0;
    block_sync();
    uint32_t weights[kPerThread], ranks[kPerThread];
    QUIRE_UNROLL(kPerThread)
    for (int j = 0; j < kPerThread; ++j) {
        const int i = threadIdx.x + j * kChunkThreads;
        weights[j] = i < place.count ? weigh(logits[i], largest, temperature) : 0;
        ranks[j] = 0;
        if (weights[j] == 0) continue;
        ranks[j] = atomic_add(&counts[bin_of(weights[j])], 1u);
        atomic_add(&rests[bin_of(weights[j])], rest_of(weights[j]));
    }
    block_sync();
    find_starts(counts, starts);
    block_sync();
    QUIRE_UNROLL(kPerThread)
    for (int j = 0; j < kPerThread; ++j) {
        if (weights[j] == 0) continue;
        const uint32_t local = threadIdx.x + j * kChunkThreads;
        entries[starts[bin_of(weights[j])] + ranks[j]] = rest_of(weights[j]) << kLocalBits | local;
    }
    uint16_t *row_starts = chunk_part(call, call.sampler.starts, place.row, place.chunk, kBins + 1);
    for (int bin = threadIdx.x; bin <= kBins; bin += kChunkThreads) {
        row_starts[bin] = static_cast<uint16_t>(starts[bin]);
        if (bin == kBins || counts[bin] == 0) continue;
        const int64_t index = static_cast<int64_t>(place.row) * kBins + bin;
        atomic_add(call.sampler.bin_counts + index, counts[bin]);
        const Mass mantissas = static_cast<Mass>(counts[bin]) * first_mantissa(bin) + rests[bin];
        atomic_add(reinterpret_cast<Mass *>(call.sampler.bin_masses) + index, mass_of(bin, mantissas));
    }
    block_sync();
    uint32_t *target = chunk_part(call, call.sampler.scratch, place.row, place.chunk, kChunk);
    for (uint32_t i = threadIdx.x; i < starts[kBins]; i += kChunkThreads) target[i] = entries[i];
}

// The chunk's `wanted` likeliest tokens, and its share of the sum over all tokens.
__device__ __forceinline__ void report_chunk(const SamplingCall &call, const ChunkPlace &place, RowState *state,
                                             int wanted) {
    const float *logits = raw_logits(call, place.row) + place.first;
    const float largest = logit_of(state->raw_best);
    Mass ranks[kPerThread], mass = 0;
    QUIRE_UNROLL(kPerThread)
    for (int j = 0; j < kPerThread; ++j) {
        const int i = threadIdx.x + j * kChunkThreads;
        ranks[j] = i < place.count ? rank_of(logits[i], place.first + i) : 0;
        if (i < place.count) mass += mass_of(weigh(logits[i], largest, 1.0f));
    }
    mass = warp_total(mass);
    if (lane_index() == 0) atomic_add(&state->raw_mass, mass);
    uint64_t *leaders = chunk_part(call, call.sampler.leaders, place.row, place.chunk, QUIRE_CUDA_SAMPLING_TOP);
    Mass bound = ~static_cast<Mass>(0);
    for (int number = 0; number < wanted; ++number) {
        Mass next = 0;
        QUIRE_UNROLL(kPerThread)
        for (int j = 0; j < kPerThread; ++j) next = ranks[j] < bound ? max(next, ranks[j]) : next;
        bound = block_max<kChunkThreads>(next);
        if (threadIdx.x == 0) leaders[number] = bound;
    }
}

__global__ void __launch_bounds__(kChunkThreads) survey(SamplingCall call) {
    const ChunkPlace place(call);
    const quire_cuda_sampling_row &row = call.rows[place.row];
    if (row.kind == kUnusedRow) return;
    RowState *state = state_of(call, place.row);
    if (row.kind == kDrawnRow) {
        const bool changed = has_changes(row);
        const auto *scratch = reinterpret_cast<const float *>(
            chunk_part(call, call.sampler.scratch, place.row, place.chunk, kChunk));
        const float *logits = changed ? scratch : raw_logits(call, place.row) + place.first;
        sort_chunk(call, place, logits, logit_of(changed ? state->best : state->raw_best), row.temperature);
    }
    if (row.logprobs >= 0) report_chunk(call, place, state, row.logprobs);
}

}  // namespace

int32_t prepare_survey_chunks() { return prepare(survey); }

int32_t survey_chunks(void *stream, const SamplingCall &call, int rows) {
    return launch(survey, dim3(call.chunks, rows), dim3(kChunkThreads), 0, stream, call);
}

}  // namespace quire::sampling
