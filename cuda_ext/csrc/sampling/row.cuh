// Where the things of a row are.
#pragma once

#include "../common/platform.cuh"
#include "sampling.h"

namespace quire::sampling {

// The chunk of a row that a block of a grid of [chunks, rows] works on.
struct ChunkPlace {
    int row, chunk, first, count;  // its first token, and how many there are

    __device__ explicit ChunkPlace(const SamplingCall &call)
        : row(blockIdx.y), chunk(blockIdx.x), first(chunk * kChunk), count(min(kChunk, call.sampler.vocab_size - first)) {}
};

__device__ __forceinline__ bool has_changes(const quire_cuda_sampling_row &row) {
    return row.biases > 0 || row.forbiddens > 0 || row.slot >= 0 || row.mask >= 0;
}

__device__ __forceinline__ RowState *state_of(const SamplingCall &call, int row) {
    return static_cast<RowState *>(call.sampler.states) + row;
}

__device__ __forceinline__ const float *raw_logits(const SamplingCall &call, int row) {
    return call.logits + static_cast<int64_t>(row) * call.sampler.vocab_size;
}

// A row's part of an array [rows, chunks, per_chunk].
template <typename T>
__device__ __forceinline__ T *chunk_part(const SamplingCall &call, T *array, int row, int chunk, int per_chunk) {
    return array + (static_cast<int64_t>(row) * call.chunks + chunk) * per_chunk;
}

}  // namespace quire::sampling
