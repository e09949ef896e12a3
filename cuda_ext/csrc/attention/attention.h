// Paged attention: what its files share. paged_attention.cu says which kernels take which tokens.
#pragma once

#include <cstdint>

#include "../quire_cuda.h"

namespace quire {

// Positions that are softmaxed together, counted from absolute position 0.
constexpr int kChunk = 128;

// How the queries that share a key head are laid into the rows of a tile: token after token, each with its heads.
struct Packing {
    int heads;   // of a token in one tile
    int tiles;   // that all its heads take
    int tokens;  // of a tile
};

// Everything a kernel needs; `scale` is times log2(e).
struct AttentionCall : quire_cuda_attention {
    int chunks;         // how many a query may have
    bool split;         // plain kernels: each chunk has a block of its own
    int partial_rows;   // of a decode partial
    int most_partials;  // that the workspace holds
    Packing decode, prompt;
};

// How queries go into tiles of `rows` rows.
Packing pack_queries(const AttentionCall &call, int rows);

// Rows of a tile of decode.cuh.
constexpr int kDecodeRows = 16;

// Of the floats a partial has for each row: sums of head_dim features, largest score, sum of weights.
constexpr int kStateFloats = 2;

// Any types, one block for each query; see plain.cuh.
int32_t attend_plainly_f16(void *stream, const AttentionCall &call);
int32_t attend_plainly_bf16(void *stream, const AttentionCall &call);
int32_t attend_plainly_f32(void *stream, const AttentionCall &call);

// On tensor cores: sequences of few tokens (decode.cuh), and of many (prompt.cuh).
int32_t decode_f16(void *stream, const AttentionCall &call);
int32_t decode_bf16(void *stream, const AttentionCall &call);
int32_t attend_prompts_f16(void *stream, const AttentionCall &call);
int32_t attend_prompts_bf16(void *stream, const AttentionCall &call);

// Puts together what their kernels have left in the workspace.
int32_t merge_plain_chunks(void *stream, const AttentionCall &call);
int32_t merge_decoded_chunks(void *stream, const AttentionCall &call);

int32_t prepare_plain_f16();
int32_t prepare_plain_bf16();
int32_t prepare_plain_f32();
int32_t prepare_decode_f16();
int32_t prepare_decode_bf16();
int32_t prepare_prompts_f16();
int32_t prepare_prompts_bf16();
int32_t prepare_merge();

// All of the above.
int32_t prepare_attention();

}  // namespace quire
