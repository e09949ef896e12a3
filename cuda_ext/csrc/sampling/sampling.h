// Sampling, as its files share it. docs/kernels.md draws how the three kernels work together.
#pragma once

#include <cstdint>

#include "../quire_cuda.h"

namespace quire {

int32_t prepare_sampling();

}

namespace quire::sampling {

using Mass = unsigned long long;  // what 64-bit atomics take

// Tokens that one block works on. An id within a chunk takes kLocalBits.
constexpr int kChunk = QUIRE_CUDA_SAMPLING_CHUNK;
constexpr int kLocalBits = 11;
static_assert(kChunk == 1 << kLocalBits, "a chunk's ids fill their bits");
constexpr int kMostChunks = 256;

constexpr int kChunkThreads = 256;
constexpr int kPerThread = kChunk / kChunkThreads;

// Of an entry of the counts; the bit above says that the token is in the prompt.
constexpr uint32_t kOccurrences = 0x7fff;

enum { kUnusedRow = 0, kGreedyRow = 1, kDrawnRow = 2 };

enum { kNotFinite = 1, kNothingLeft = 2 };

// What blocks of a row gather. Zeros before the first kernel, and again after the last.
struct RowState {
    Mass raw_best;      // largest of the model's logits and its lowest token, as rank_of packs them
    Mass best;          // the same of the changed logits
    Mass raw_mass;      // sum of the weights of the model's logits
    uint32_t broken;    // not 0: NaN or plus infinity among them
    uint32_t padding;
};

// Everything about one call, on its way to the kernels.
struct SamplingCall {
    quire_cuda_sampler sampler;
    const float *logits;                   // [rows, vocab_size]
    const quire_cuda_sampling_row *rows;   // the inputs' front
    const uint32_t *words;                 // all of the inputs
    int32_t *tokens;                       // [rows]
    quire_cuda_sampled *records;           // [rows]
    int chunks;
};

int32_t prepare_change_logits();
int32_t prepare_survey_chunks();
int32_t prepare_choose_tokens();

int32_t change_logits(void *stream, const SamplingCall &call, int rows);
int32_t survey_chunks(void *stream, const SamplingCall &call, int rows);
int32_t choose_tokens(void *stream, const SamplingCall &call, int rows);

}  // namespace quire::sampling
