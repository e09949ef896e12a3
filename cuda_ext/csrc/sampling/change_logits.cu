// Bias, penalties, forbidden tokens and masks, in the order of engine/sampling/processors.py; and the largest logit.
#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "exchange.cuh"
#include "row.cuh"
#include "weights.cuh"

namespace quire::sampling {
namespace {

// What one thread has seen of a row's logits.
struct Extreme {
    Mass best = 0;
    bool broken = false;

    __device__ void see(float logit, int token) {
        best = max(best, rank_of(logit, token));
        broken = broken || !(logit < INFINITY);
    }

    // Adds it to what the row's other threads have seen.
    __device__ void publish(Mass *row_best, uint32_t *row_broken) const {
        const Mass largest = block_max<kChunkThreads>(best);
        if (threadIdx.x == 0) atomic_max(row_best, largest);
        if (any(broken) && lane_index() == 0) atomic_max(row_broken, 1u);
    }
};

// Repetition, frequency and presence. Rounded as numpy does it: after every operation.
__device__ __forceinline__ float penalize(float logit, uint32_t seen, const quire_cuda_sampling_row &row) {
    if (seen == 0) return logit;
    if (row.repetition_penalty != 1.0f) {
        logit = logit > 0.0f ? __fdiv_rn(logit, row.repetition_penalty) : __fmul_rn(logit, row.repetition_penalty);
    }
    const uint32_t occurrences = seen & kOccurrences;
    if (occurrences == 0) return logit;
    logit = __fadd_rn(logit, -__fmul_rn(row.frequency_penalty, static_cast<float>(occurrences)));
    return __fadd_rn(logit, -row.presence_penalty);
}

// Applies everything to the chunk in `values` [kChunk]. Lists name a token once, or write the same for it each time.
__device__ __forceinline__ void change_chunk(const SamplingCall &call, const quire_cuda_sampling_row &row,
                                             const ChunkPlace &place, float *values) {
    for (int i = threadIdx.x; i < row.biases; i += kChunkThreads) {
        const uint32_t local = call.words[row.bias + 2 * i] - place.first;
        if (local < static_cast<uint32_t>(place.count)) {
            values[local] = __fadd_rn(values[local], __uint_as_float(call.words[row.bias + 2 * i + 1]));
        }
    }
    block_sync();
    for (int i = threadIdx.x; i < place.count; i += kChunkThreads) {
        const int token = place.first + i;
        if (row.slot >= 0) {
            const int64_t entry = static_cast<int64_t>(row.slot) * call.sampler.vocab_size + token;
            values[i] = penalize(values[i], call.sampler.counts[entry], row);
        }
        if (row.mask >= 0 && (call.words[row.mask + token / 32] >> token % 32 & 1u) == 0) values[i] = -INFINITY;
    }
    block_sync();
    for (int i = threadIdx.x; i < row.forbiddens; i += kChunkThreads) {
        const uint32_t local = call.words[row.forbidden + i] - place.first;
        if (local < static_cast<uint32_t>(place.count)) values[local] = -INFINITY;
    }
    block_sync();
}

__global__ void __launch_bounds__(kChunkThreads) change(SamplingCall call) {
    QUIRE_SHARED(float, values, kChunk);
    const ChunkPlace place(call);
    const quire_cuda_sampling_row row = call.rows[place.row];
    if (row.kind == kUnusedRow) return;
    RowState *state = state_of(call, place.row);
    const float *source = raw_logits(call, place.row) + place.first;

    Extreme raw;
    for (int i = threadIdx.x; i < place.count; i += kChunkThreads) {
        values[i] = source[i];
        raw.see(values[i], place.first + i);
    }
    raw.publish(&state->raw_best, &state->broken);
    if (!has_changes(row)) return;

    block_sync();
    change_chunk(call, row, place, values);
    uint32_t *target = chunk_part(call, call.sampler.scratch, place.row, place.chunk, kChunk);
    Extreme changed;
    for (int i = threadIdx.x; i < place.count; i += kChunkThreads) {
        target[i] = __float_as_uint(values[i]);
        changed.see(values[i], place.first + i);
    }
    changed.publish(&state->best, &state->broken);
}

}  // namespace

int32_t prepare_change_logits() { return prepare(change); }

int32_t change_logits(void *stream, const SamplingCall &call, int rows) {
    return launch(change, dim3(call.chunks, rows), dim3(kChunkThreads), 0, stream, call);
}

}  // namespace quire::sampling
