// Attention's entry: which kernels to start, and putting the chunks together that blocks of their own have computed.
#include "../common/launch.cuh"
#include "attention.h"
#include "softmax.cuh"

namespace quire {
namespace {

constexpr int kThreads = 128;
constexpr float kLog2E = 1.4426950408889634f;

// Enough blocks to keep a processor busy; with fewer, chunks get blocks of their own.
constexpr int64_t kBlocksPerProcessor = 4;

// One block per query head.
__global__ void __launch_bounds__(kThreads) merge_chunks(AttentionCall call) {
    const int row = blockIdx.x, head = blockIdx.y;
    const Query query = find_query(call, row);
    if (!query.exists()) return;
    for (int feature = threadIdx.x; feature < call.head_dim; feature += kThreads) {
        SoftmaxState state;
        float value = 0.0f;
        for (int chunk = query.first_chunk(); chunk <= query.last_chunk(); ++chunk) {
            const float *partial = call.partials + partial_index(call, row, head, chunk);
            SoftmaxState coming;
            coming.largest = partial[call.head_dim];
            coming.sum = partial[call.head_dim + 1];
            value = merge_value(value, partial[feature], merge(state, coming));
        }
        const int64_t target = (static_cast<int64_t>(row) * call.q_heads + head) * call.head_dim + feature;
        store_activation(call.out, target, call.dtype, value / state.sum);
    }
}

int32_t attend_cache(void *stream, const AttentionCall &call, int32_t cache_dtype) {
    if (cache_dtype == QUIRE_CUDA_F16) return attend_f16(stream, call);
    if (cache_dtype == QUIRE_CUDA_BF16) return attend_bf16(stream, call);
    if (cache_dtype == QUIRE_CUDA_F32) return attend_f32(stream, call);
    return QUIRE_CUDA_UNSUPPORTED;
}

}  // namespace

int32_t prepare_attention() {
    return first_error(prepare(merge_chunks), prepare_attend_f16(), prepare_attend_bf16(), prepare_attend_f32());
}

}  // namespace quire

extern "C" {

int32_t quire_cuda_paged_attention(void *stream, const void *q, const void *k_cache, const void *v_cache,
                                   int32_t cache_dtype, const int32_t *query_start, const int32_t *context_lens,
                                   const int32_t *block_tables, int64_t rows, int64_t sequences, int64_t table_width,
                                   int64_t q_heads, int64_t kv_heads, int64_t head_dim, int64_t block_size, float scale,
                                   int64_t window, int32_t processors, void *workspace, int64_t workspace_bytes,
                                   void *out, int32_t dtype) {
    if (head_dim % 8 != 0 || head_dim > 256 || (dtype != QUIRE_CUDA_F16 && dtype != QUIRE_CUDA_BF16)) {
        return QUIRE_CUDA_UNSUPPORTED;
    }
    if (rows == 0) return QUIRE_CUDA_OK;
    quire::AttentionCall call = {};
    call.q = q;
    call.k_cache = k_cache;
    call.v_cache = v_cache;
    call.query_start = query_start;
    call.context_lens = context_lens;
    call.block_tables = block_tables;
    call.out = out;
    call.rows = static_cast<int>(rows);
    call.sequences = static_cast<int>(sequences);
    call.table_width = static_cast<int>(table_width);
    call.q_heads = static_cast<int>(q_heads);
    call.kv_heads = static_cast<int>(kv_heads);
    call.head_dim = static_cast<int>(head_dim);
    call.block_size = static_cast<int>(block_size);
    call.window = static_cast<int>(window);
    call.scale = scale * quire::kLog2E;
    call.dtype = dtype;

    const int64_t chunks = quire::blocks_for(table_width * block_size, quire::kChunk);
    const int64_t bytes = rows * q_heads * chunks * (head_dim + 2) * static_cast<int64_t>(sizeof(float));
    const bool few = rows * kv_heads < quire::kBlocksPerProcessor * processors;
    if (chunks > 1 && few && bytes <= workspace_bytes) {
        call.partials = static_cast<float *>(workspace);
        call.chunks = static_cast<int>(chunks);
        const int32_t status = quire::attend_cache(stream, call, cache_dtype);
        if (status != 0) return status;
        const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(q_heads));
        return quire::launch(quire::merge_chunks, grid, dim3(quire::kThreads), 0, stream, call);
    }
    return quire::attend_cache(stream, call, cache_dtype);
}

}
