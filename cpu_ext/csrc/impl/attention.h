// Causal attention over a paged cache, for any instruction set that provides `Simd`.
//
// Positions are taken in chunks of kPositionChunk, counted from absolute position 0, with a running maximum and sum
// (online softmax: Milakov and Gimelshein, 2018). A query row goes through the chunks its own window touches, in order;
// which other rows share the converted keys and values changes nothing in its arithmetic.
#pragma once

#include "../kernels.h"
#include "elementwise.h"

namespace quire {
namespace {

// Where scratch memory holds what; all rows are padded with zeros to `stride` floats.
struct AttentionScratch {
    int64_t stride;
    float *keys;     // [kPositionChunk, stride]
    float *values;   // [kPositionChunk, stride]
    float *queries;  // [rows, stride], scaled
    float *sums;     // [rows, stride] weighted values so far
    float *maxima;   // [rows] largest score so far
    float *weights;  // [rows] sum of e^(score - maximum) so far
    float *scores;   // [kPositionChunk] of the row at hand

    AttentionScratch(float *memory, int64_t rows, int64_t head_dim) {
        stride = padded_head_dim(head_dim);
        keys = memory;
        values = keys + kPositionChunk * stride;
        queries = values + kPositionChunk * stride;
        sums = queries + rows * stride;
        maxima = sums + rows * stride;
        weights = maxima + rows;
        scores = weights + rows;
    }
};

// Positions begin .. end - 1 a row sees.
struct Span {
    int64_t begin;
    int64_t end;
};

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

inline Span visible_span(const AttentionView &view, int64_t sequence, int64_t row) {
    const int64_t rows_after = view.query_start[sequence + 1] - 1 - row;
    const int64_t position = view.context_lens[sequence] - 1 - rows_after;
    return {view.window > 0 ? larger(0, position - view.window + 1) : 0, position + 1};
}

// Keys and values of positions span.begin .. span.end - 1, as floats, to their places in the chunk.
void load_chunk(const AttentionView &view, int64_t sequence, int64_t kv_head, int64_t chunk, Span span,
                const AttentionScratch &scratch) {
    const int32_t *table = view.block_tables + sequence * view.table_width;
    for (int64_t position = span.begin; position < span.end; ++position) {
        const int64_t block = table[position / view.block_size];
        const int64_t row = (block * view.kv_heads + kv_head) * view.block_size + position % view.block_size;
        const int64_t offset = row * view.head_dim * element_size(view.element);
        const int64_t place = (position - chunk) * scratch.stride;
        convert_to_float(static_cast<const unsigned char *>(view.k_cache) + offset, view.element, view.head_dim,
                         scratch.keys + place);
        convert_to_float(static_cast<const unsigned char *>(view.v_cache) + offset, view.element, view.head_dim,
                         scratch.values + place);
    }
}

inline float dot(const float *a, const float *b, int64_t stride) {
    Simd::Float sum = Simd::set(0.0f);
    for (int64_t d = 0; d < stride; d += Simd::kWidth) sum = Simd::fma(Simd::load(a + d), Simd::load(b + d), sum);
    return Simd::sum(sum);
}

// sums = sums * factor + sum over positions of scores * values, kVectors vectors of the head at a time.
template <int kVectors>
inline int64_t accumulate(float *sums, const float *scores, const float *values, int64_t count, int64_t stride,
                          float factor, int64_t d) {
    for (; d + kVectors * Simd::kWidth <= stride; d += kVectors * Simd::kWidth) {
        Simd::Float total[kVectors];
        for (int v = 0; v < kVectors; ++v) {
            total[v] = Simd::mul(Simd::load(sums + d + v * Simd::kWidth), Simd::set(factor));
        }
        for (int64_t i = 0; i < count; ++i) {
            const Simd::Float score = Simd::set(scores[i]);
            for (int v = 0; v < kVectors; ++v) {
                total[v] = Simd::fma(score, Simd::load(values + i * stride + d + v * Simd::kWidth), total[v]);
            }
        }
        for (int v = 0; v < kVectors; ++v) Simd::store(sums + d + v * Simd::kWidth, total[v]);
    }
    return d;
}

// Takes the chunk's positions span.begin .. span.end - 1 into row `index` of the tile.
void attend_chunk(const AttentionScratch &scratch, int64_t index, int64_t chunk, Span span) {
    const int64_t stride = scratch.stride;
    const int64_t count = span.end - span.begin;
    const float *keys = scratch.keys + (span.begin - chunk) * stride;
    const float *values = scratch.values + (span.begin - chunk) * stride;
    float *scores = scratch.scores;

    const float *query = scratch.queries + index * stride;
    const int64_t padded = (count + Simd::kWidth - 1) / Simd::kWidth * Simd::kWidth;
    for (int64_t i = 0; i < count; ++i) scores[i] = dot(query, keys + i * stride, stride);
    for (int64_t i = count; i < padded; ++i) scores[i] = -__builtin_inff();  // e^-inf = 0: adds nothing

    const float before = scratch.maxima[index];
    Simd::Float largest = Simd::set(before);
    for (int64_t i = 0; i < padded; i += Simd::kWidth) largest = Simd::max(largest, Simd::load(scores + i));
    const float maximum = Simd::maximum(largest);

    Simd::Float weight = Simd::set(0.0f);
    for (int64_t i = 0; i < padded; i += Simd::kWidth) {
        const Simd::Float e = exponential(Simd::sub(Simd::load(scores + i), Simd::set(maximum)));
        Simd::store(scores + i, e);
        weight = Simd::add(weight, e);
    }
    float padded_factor[Simd::kWidth];
    Simd::store(padded_factor, exponential(Simd::set(before - maximum)));
    const float factor = padded_factor[0];  // 0 at the first chunk, where `before` is -inf

    scratch.maxima[index] = maximum;
    scratch.weights[index] = scratch.weights[index] * factor + Simd::sum(weight);
    float *sums = scratch.sums + index * stride;
    const int64_t d = accumulate<4>(sums, scores, values, count, stride, factor, 0);
    accumulate<1>(sums, scores, values, count, stride, factor, d);
}

void attention_tile(const AttentionView &view, const QueryTile &tile, int64_t kv_head, float *memory) {
    const int64_t heads = view.q_heads / view.kv_heads;
    const int64_t dim = view.head_dim;
    const int64_t rows = (tile.end_row - tile.first_row) * heads;
    const AttentionScratch scratch(memory, rows, dim);
    const int64_t stride = scratch.stride;
    const auto place = [&](int64_t index) {  // of row `index` of the tile in q and out
        const int64_t row = tile.first_row + index / heads;
        return (row * view.q_heads + kv_head * heads + index % heads) * dim;
    };

    for (int64_t i = 0; i < (2 * kPositionChunk + 2 * rows) * stride; ++i) memory[i] = 0.0f;
    for (int64_t index = 0; index < rows; ++index) {
        const float *q = view.q + place(index);
        for (int64_t d = 0; d < dim; ++d) scratch.queries[index * stride + d] = q[d] * view.scale;
        scratch.maxima[index] = -__builtin_inff();
        scratch.weights[index] = 0.0f;
    }

    const int64_t begin = visible_span(view, tile.sequence, tile.first_row).begin;
    const int64_t end = visible_span(view, tile.sequence, tile.end_row - 1).end;
    for (int64_t chunk = begin / kPositionChunk * kPositionChunk; chunk < end; chunk += kPositionChunk) {
        const Span inside = {larger(begin, chunk), smaller(end, chunk + kPositionChunk)};
        load_chunk(view, tile.sequence, kv_head, chunk, inside, scratch);
        for (int64_t index = 0; index < rows; ++index) {
            const Span sees = visible_span(view, tile.sequence, tile.first_row + index / heads);
            const Span span = {larger(sees.begin, chunk), smaller(sees.end, chunk + kPositionChunk)};
            if (span.begin < span.end) attend_chunk(scratch, index, chunk, span);
        }
    }

    for (int64_t index = 0; index < rows; ++index) {
        const float factor = 1.0f / scratch.weights[index];
        float *out = view.out + place(index);
        for (int64_t d = 0; d < dim; ++d) out[d] = scratch.sums[index * stride + d] * factor;
    }
}

}  // namespace
}  // namespace quire
