// Paged attention: what its files share. The method is drawn in decode.cuh.
#pragma once

#include <cstdint>

namespace quire {

// Positions that are softmaxed together, counted from absolute position 0.
constexpr int kChunk = 128;

// Everything a kernel needs; arrays as in quire_cuda_paged_attention.
struct AttentionCall {
    const void *q;
    const void *k_cache;
    const void *v_cache;
    const int32_t *query_start;
    const int32_t *context_lens;
    const int32_t *block_tables;
    void *out;
    float *partials;  // [rows, q_heads, chunks, head_dim + 2], where chunks are computed by blocks of their own
    int chunks;       // how many at most; 0 where one block goes through all of them
    int rows, sequences, table_width;
    int q_heads, kv_heads, head_dim, block_size;
    int window;  // 0 for none
    float scale;  // times log2(e)
    int dtype;
};

int32_t attend_f16(void *stream, const AttentionCall &call);
int32_t attend_bf16(void *stream, const AttentionCall &call);
int32_t attend_f32(void *stream, const AttentionCall &call);

int32_t prepare_attend_f16();
int32_t prepare_attend_bf16();
int32_t prepare_attend_f32();

// All of the above, and the kernel that puts chunks together.
int32_t prepare_attention();

}  // namespace quire
