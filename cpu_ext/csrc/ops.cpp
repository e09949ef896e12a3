// Every op that is not a matrix product: what to compute where is decided here, the arithmetic is in impl/.
#include <atomic>
#include <cstring>
#include <new>

#include "context.h"
#include "quire_cpu.h"

using namespace quire;

namespace {

// Elements from which on a simple op is worth a parallel region.
constexpr int64_t kParallelElements = 1 << 15;

using Lock = std::lock_guard<std::mutex>;

// body(begin, end) over 0 .. count - 1, in parallel if the op touches enough elements.
template <class Body> void for_range(quire_context &context, int64_t count, int64_t elements, const Body &body) {
    if (elements < kParallelElements) {
        body(0, count);
    } else {
        context.pool.split(count, [&body](int64_t begin, int64_t end, int) { body(begin, end); });
    }
}

// Cuts every sequence's rows into tiles of at most kQueryTile; returns how many there are.
int64_t make_query_tiles(const int32_t *query_start, int64_t sequences, QueryTile *tiles) {
    int64_t count = 0;
    for (int64_t sequence = 0; sequence < sequences; ++sequence) {
        const int64_t end = query_start[sequence + 1];
        for (int64_t row = query_start[sequence]; row < end; row += kQueryTile) {
            tiles[count++] = {sequence, row, row + kQueryTile < end ? row + kQueryTile : end};
        }
    }
    return count;
}

}  // namespace

int32_t quire_embed(quire_context *context, const int32_t *ids, const void *table, int32_t dtype, int64_t rows,
                    int64_t width, float *out) {
    const Lock lock(context->mutex);
    const auto element = static_cast<Element>(dtype);
    const auto *bytes = static_cast<const unsigned char *>(table);
    for_range(*context, rows, rows * width, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const int64_t offset = ids[row] * width * element_size(element);
            context->kernels.convert_to_float(bytes + offset, element, width, out + row * width);
        }
    });
    return QUIRE_OK;
}

int32_t quire_rms_norm(quire_context *context, const float *x, const void *weight, int32_t dtype, float eps,
                       int64_t rows, int64_t width, float *out) {
    const Lock lock(context->mutex);
    const auto element = static_cast<Element>(dtype);
    for_range(*context, rows, rows * width, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            context->kernels.rms_norm_row(x + row * width, weight, element, eps, width, out + row * width);
        }
    });
    return QUIRE_OK;
}

int32_t quire_rotate(quire_context *context, float *q, float *k, const int32_t *positions, const float *cos,
                     const float *sin, int64_t rows, int64_t q_heads, int64_t kv_heads, int64_t head_dim) {
    const Lock lock(context->mutex);
    const int64_t half = head_dim / 2;
    for_range(*context, rows, rows * (q_heads + kv_heads) * head_dim, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const float *row_cos = cos + positions[row] * half;
            const float *row_sin = sin + positions[row] * half;
            for (int64_t head = 0; head < q_heads; ++head) {
                context->kernels.rotate_head(q + (row * q_heads + head) * head_dim, row_cos, row_sin, half);
            }
            for (int64_t head = 0; head < kv_heads; ++head) {
                context->kernels.rotate_head(k + (row * kv_heads + head) * head_dim, row_cos, row_sin, half);
            }
        }
    });
    return QUIRE_OK;
}

int32_t quire_silu_mul(quire_context *context, const float *gate, const float *up, int64_t count, float *out) {
    const Lock lock(context->mutex);
    for_range(*context, count, count, [&](int64_t begin, int64_t end) {
        context->kernels.silu_mul(gate + begin, up + begin, end - begin, out + begin);
    });
    return QUIRE_OK;
}

int32_t quire_add(quire_context *context, const float *x, int64_t count, float *residual) {
    const Lock lock(context->mutex);
    for_range(*context, count, count, [&](int64_t begin, int64_t end) {
        context->kernels.add(x + begin, end - begin, residual + begin);
    });
    return QUIRE_OK;
}

int32_t quire_store_kv(quire_context *context, const float *k, const float *v, const int32_t *slots, int64_t rows,
                       int64_t kv_heads, int64_t block_size, int64_t head_dim, int32_t dtype, void *k_cache,
                       void *v_cache) {
    const Lock lock(context->mutex);
    const auto element = static_cast<Element>(dtype);
    auto *k_bytes = static_cast<unsigned char *>(k_cache);
    auto *v_bytes = static_cast<unsigned char *>(v_cache);
    for_range(*context, rows, rows * kv_heads * head_dim, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            if (slots[row] < 0) continue;
            const int64_t block = slots[row] / block_size;
            const int64_t place = slots[row] % block_size;
            for (int64_t head = 0; head < kv_heads; ++head) {
                const int64_t source = (row * kv_heads + head) * head_dim;
                const int64_t target = ((block * kv_heads + head) * block_size + place) * head_dim;
                const int64_t offset = target * element_size(element);
                context->kernels.convert_from_float(k + source, element, head_dim, k_bytes + offset);
                context->kernels.convert_from_float(v + source, element, head_dim, v_bytes + offset);
            }
        }
    });
    return QUIRE_OK;
}

int32_t quire_paged_attention(quire_context *context, const float *q, const void *k_cache, const void *v_cache,
                              int32_t dtype, const int32_t *query_start, const int32_t *context_lens,
                              const int32_t *block_tables, int64_t sequences, int64_t table_width, int64_t q_heads,
                              int64_t kv_heads, int64_t head_dim, int64_t block_size, float scale, int64_t window,
                              float *out) try {
    const Lock lock(context->mutex);
    const AttentionView view = {q,           k_cache, v_cache,  static_cast<Element>(dtype), query_start, context_lens,
                                block_tables, table_width, q_heads, kv_heads, head_dim, block_size, scale, window, out};
    QueryTile *tiles = context->query_tiles.reserve(query_start[sequences]);
    context->reserve_thread_scratch(attention_scratch(head_dim, q_heads / kv_heads));
    const int64_t count = make_query_tiles(query_start, sequences, tiles);
    context->pool.share(count * kv_heads, [&](int64_t item, int thread) {
        float *scratch = context->thread_scratch[static_cast<size_t>(thread)].data();
        context->kernels.attention_tile(view, tiles[item / kv_heads], item % kv_heads, scratch);
    });
    return QUIRE_OK;
} catch (const std::bad_alloc &) {
    return QUIRE_OUT_OF_MEMORY;
}

int32_t quire_take_rows(quire_context *context, const float *x, const int32_t *rows, int64_t count, int64_t width,
                        float *out) {
    const Lock lock(context->mutex);
    for_range(*context, count, count * width, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            std::memcpy(out + row * width, x + rows[row] * width, static_cast<size_t>(width) * sizeof(float));
        }
    });
    return QUIRE_OK;
}

uint64_t quire_read_memory(quire_context *context, const uint64_t *data, int64_t words) {
    const Lock lock(context->mutex);
    std::atomic<uint64_t> total{0};
    context->pool.split(words, [&](int64_t begin, int64_t end, int) {
        uint64_t sum = 0;
        for (int64_t i = begin; i < end; ++i) sum += data[i];
        total.fetch_add(sum);
    });
    return total.load();
}
