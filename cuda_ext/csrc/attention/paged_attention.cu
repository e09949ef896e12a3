// Attention's entry: which kernels take which tokens.
//
//   head_dim, types and card as tensor cores need them    decode.cuh  sequences of at most `decode.tokens` tokens
//                                                         prompt.cuh  all others
//   anything else                                         plain.cuh
#include <algorithm>

#include "../common/launch.cuh"
#include "../device.h"
#include "attention.h"

namespace quire {

Packing pack_queries(const AttentionCall &call, int rows) {
    const int shared_by = call.q_heads / call.kv_heads, heads = std::min(shared_by, rows);
    return {heads, (shared_by + heads - 1) / heads, rows / heads};
}

namespace {

constexpr float kLog2E = 1.4426950408889634f;

// Enough blocks to keep a processor busy with plain kernels; with fewer, chunks get blocks of their own.
constexpr int64_t kBlocksPerProcessor = 4;

int64_t partial_bytes(const AttentionCall &call) {
    return (call.head_dim + kStateFloats) * static_cast<int64_t>(sizeof(float));
}

int32_t attend_plainly(void *stream, AttentionCall call) {
    const int64_t bytes = static_cast<int64_t>(call.rows) * call.q_heads * call.chunks * partial_bytes(call);
    const bool few = static_cast<int64_t>(call.rows) * call.kv_heads < kBlocksPerProcessor * call.processors;
    call.split = call.chunks > 1 && few && bytes <= call.workspace_bytes;
    int32_t status = QUIRE_CUDA_UNSUPPORTED;
    if (call.cache_dtype == QUIRE_CUDA_F16) status = attend_plainly_f16(stream, call);
    if (call.cache_dtype == QUIRE_CUDA_BF16) status = attend_plainly_bf16(stream, call);
    if (call.cache_dtype == QUIRE_CUDA_F32) status = attend_plainly_f32(stream, call);
    if (status != 0 || !call.split) return status;
    return merge_plain_chunks(stream, call);
}

int32_t attend_on_tensor_cores(void *stream, AttentionCall call) {
    const bool f16 = call.dtype == QUIRE_CUDA_F16, prompts = call.max_query_len > call.decode.tokens;
    if (!prompts || call.sequences > 1) {
        const auto status = f16 ? decode_f16(stream, call) : decode_bf16(stream, call);
        if (status != 0) return status;
        if (call.chunks > 1 && call.most_partials > 0) {
            const int32_t merged = merge_decoded_chunks(stream, call);
            if (merged != 0) return merged;
        }
    }
    if (!prompts) return QUIRE_CUDA_OK;
    return f16 ? attend_prompts_f16(stream, call) : attend_prompts_bf16(stream, call);
}

}  // namespace

int32_t prepare_attention() {
    const int32_t status =
        first_error(prepare_plain_f16(), prepare_plain_bf16(), prepare_plain_f32(), prepare_merge());
    if (status != 0 || capability_major() < 8) return status;  // earlier cards lack the shared memory, too
    return first_error(prepare_decode_f16(), prepare_decode_bf16(), prepare_prompts_f16(), prepare_prompts_bf16());
}

}  // namespace quire

extern "C" {

int32_t quire_cuda_paged_attention(void *stream, const quire_cuda_attention *step) {
    using namespace quire;
    AttentionCall call = {};
    static_cast<quire_cuda_attention &>(call) = *step;
    if (call.head_dim % 8 != 0 || call.head_dim > 256 || (call.dtype != QUIRE_CUDA_F16 && call.dtype != QUIRE_CUDA_BF16)) {
        return QUIRE_CUDA_UNSUPPORTED;
    }
    if (call.rows == 0) return QUIRE_CUDA_OK;
    call.scale *= kLog2E;
    call.chunks = static_cast<int>(blocks_for(static_cast<int64_t>(call.table_width) * call.block_size, kChunk));
    if (call.tensor_cores == 0 || call.cache_dtype != call.dtype) return attend_plainly(stream, call);
    call.decode = pack_queries(call, kDecodeRows);
    call.partial_rows = std::min(call.decode.tokens, call.max_query_len) * call.decode.heads;
    call.most_partials = static_cast<int>(
        std::min<int64_t>(call.workspace_bytes / (call.partial_rows * partial_bytes(call)), INT32_MAX));
    return attend_on_tensor_cores(stream, call);
}

}
