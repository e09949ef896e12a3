// The seam between the exported functions and the kernels of one instruction set.
//
// Each instruction set fills one table of function pointers from the same templates (impl/), in a source file of its
// own that is compiled with that instruction set's flags. Kernels are single-threaded: what runs in parallel, and on
// which rows, columns or heads, is decided by the callers, and no kernel's result depends on it.
#pragma once

#include <cstdint>

namespace quire {

// Columns of a weight matrix that are kept and computed together.
constexpr int kBlockColumns = 32;
// Stored rows of an EXL2 matrix that are decoded together: 32 codes of b bits fill b words.
constexpr int kUnitRows = 32;
// Rows of K that are summed on their own before they are added to an output: bounds the rounding error and keeps the
// decoded tile in the first-level cache. Part of the definition of every result, so the same everywhere.
constexpr int kTileRows = 128;
// Activation rows that share one decode of the weights.
constexpr int kRowChunk = 128;
// Cached positions an attention step takes at a time, from absolute position 0 on.
constexpr int kPositionChunk = 64;
// Query rows of one sequence that share one pass over keys and values.
constexpr int kQueryTile = 16;

enum class Element : int32_t { kF16 = 0, kBf16 = 1, kF32 = 2 };

// Internal linkage on purpose: an inline function shared between source files could be kept in its AVX-512 form.
namespace {
[[maybe_unused]] int64_t element_size(Element element) { return element == Element::kF32 ? 4 : 2; }
}  // namespace

// 32 stored rows of an EXL2 matrix.
struct Exl2Unit {
    uint32_t first_word;  // word row in the column's bit stream
    uint16_t group;
    uint16_t bits;
};

// A weight matrix as kernels see it: column blocks of 32, one after the other.
//
// EXL2:  block = [words][32] uint32, the bit streams as on disk; units [K / 32];
//        scales [blocks][groups][32] float16, the scale t of every group and column.
// Dense: block = [K][32] of `element`.
struct WeightView {
    bool exl2;
    Element element;
    int64_t in_features;
    int64_t out_features;
    int64_t block_bytes;
    const unsigned char *blocks;
    const Exl2Unit *units;
    const uint16_t *scales;
    int64_t groups;
    const float *bias;  // padded to whole blocks, or null
};

struct AttentionView {
    const float *q;
    const void *k_cache;
    const void *v_cache;
    Element element;
    const int32_t *query_start;
    const int32_t *context_lens;
    const int32_t *block_tables;
    int64_t table_width;
    int64_t q_heads;
    int64_t kv_heads;
    int64_t head_dim;
    int64_t block_size;
    float scale;
    int64_t window;  // 0: none
    float *out;
};

// Rows first_row .. end_row - 1, all of one sequence.
struct QueryTile {
    int64_t sequence;
    int64_t first_row;
    int64_t end_row;
};

// Floats of scratch memory linear_block and attention_tile need.
constexpr int64_t kLinearScratch = kTileRows * kBlockColumns + kRowChunk * kBlockColumns;
namespace {
[[maybe_unused]] int64_t padded_head_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
[[maybe_unused]] int64_t attention_scratch(int64_t head_dim, int64_t heads_per_group) {
    const int64_t rows = kQueryTile * heads_per_group;
    return padded_head_dim(head_dim) * 2 * (kPositionChunk + rows) + 2 * rows + kPositionChunk;
}
}  // namespace

struct Kernels {
    // out[rows, out_features], the columns of one block. rows <= kRowChunk; x in the order of the stored rows.
    void (*linear_block)(const WeightView &weights, int64_t block, const float *x, int64_t rows, float *out,
                         float *scratch);
    void (*convert_to_float)(const void *source, Element element, int64_t count, float *out);
    void (*convert_from_float)(const float *source, Element element, int64_t count, void *out);
    void (*rms_norm_row)(const float *x, const void *weight, Element element, float eps, int64_t width, float *out);
    void (*rotate_head)(float *head, const float *cos, const float *sin, int64_t half);
    void (*silu_mul)(const float *gate, const float *up, int64_t count, float *out);
    void (*add)(const float *x, int64_t count, float *residual);
    // One tile of query rows, all query heads that share kv_head.
    void (*attention_tile)(const AttentionView &view, const QueryTile &tile, int64_t kv_head, float *scratch);
};

// Null where the library was built without that instruction set.
const Kernels *portable_kernels();
const Kernels *avx2_kernels();
const Kernels *avx512_kernels();

}  // namespace quire
