// Weight matrices: from checkpoint layout to kernel layout, and their product with activations.
#include <cstring>
#include <memory>
#include <new>

#include "context.h"
#include "half.h"
#include "quire_cpu.h"

using namespace quire;

struct quire_linear {
    WeightView view{};
    Buffer<unsigned char> blocks;
    Buffer<Exl2Unit> units;
    Buffer<uint16_t> scales;
    Buffer<float> bias;
    Buffer<int32_t> sources;  // EXL2: input feature of every stored row
};

namespace {

int64_t blocks_of(int64_t columns) { return (columns + kBlockColumns - 1) / kBlockColumns; }

void set_bias(quire_linear &linear, const float *bias) {
    if (bias == nullptr) return;
    const int64_t padded = blocks_of(linear.view.out_features) * kBlockColumns;
    float *copy = linear.bias.reserve(padded);
    std::memset(copy, 0, static_cast<size_t>(padded) * sizeof(float));
    std::memcpy(copy, bias, static_cast<size_t>(linear.view.out_features) * sizeof(float));
    linear.view.bias = copy;
}

// Cuts the groups into units of 32 stored rows.
void set_units(quire_linear &linear, const uint16_t *q_groups, int64_t groups, int64_t words) {
    Exl2Unit *unit = linear.units.reserve(linear.view.in_features / kUnitRows);
    linear.view.units = unit;
    for (int64_t group = 0; group < groups; ++group) {
        const uint16_t bits = q_groups[2 * group];
        const int64_t end = group + 1 < groups ? q_groups[2 * group + 3] : words;
        for (int64_t word = q_groups[2 * group + 1]; word < end; word += bits) {
            *unit++ = {static_cast<uint32_t>(word), static_cast<uint16_t>(group), bits};
        }
    }
}

// t of 32 columns of one group, with both roundings of the format (exl2 section 2).
void set_scales(const uint32_t *codes, float unit, uint16_t *t) {
    for (int64_t column = 0; column < kBlockColumns; ++column) {
        const uint32_t root = ((codes[column / 8] >> (column % 8 * 4)) & 15u) + 1u;
        t[column] = float_to_half(static_cast<float>(root * root) * unit);
    }
}

// Row `row` of block `block` of a [K, 32 per block] matrix takes column-wise elements of a row-major [N, K] one.
template <class Item>
void transpose_block(const Item *weight, int64_t in_features, int64_t out_features, int64_t block, Item *target) {
    const int64_t first = block * kBlockColumns;
    const int64_t columns = out_features - first < kBlockColumns ? out_features - first : kBlockColumns;
    constexpr int64_t kPiece = 64;  // rows written before the next column is read: keeps both sides in cache
    for (int64_t row = 0; row < in_features; row += kPiece) {
        const int64_t end = row + kPiece < in_features ? row + kPiece : in_features;
        for (int64_t c = 0; c < columns; ++c) {
            const Item *source = weight + (first + c) * in_features;
            for (int64_t k = row; k < end; ++k) target[k * kBlockColumns + c] = source[k];
        }
    }
}

// Activations of one chunk of rows in the order of the stored rows.
const float *gather_inputs(quire_context &context, const quire_linear &linear, const float *x, int64_t rows) {
    const int64_t inputs = linear.view.in_features;
    const int32_t *sources = linear.sources.data();
    float *gathered = context.inputs.data();
    const auto gather = [=](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            for (int64_t k = 0; k < inputs; ++k) gathered[row * inputs + k] = x[row * inputs + sources[k]];
        }
    };
    if (rows == 1) {
        gather(0, 1);  // a parallel region would cost more
    } else {
        context.pool.split(rows, [&](int64_t begin, int64_t end, int) { gather(begin, end); });
    }
    return gathered;
}

}  // namespace

quire_linear *quire_exl2_create(quire_context *context, const uint32_t *q_weight, const int32_t *q_invperm,
                                const uint32_t *q_scale, const uint16_t *q_scale_max, const uint16_t *q_groups,
                                int64_t in_features, int64_t stored_out_features, int64_t groups, int64_t words,
                                int64_t out_features, double prescale, const float *bias) try {
    const std::lock_guard<std::mutex> lock(context->mutex);
    auto linear = std::make_unique<quire_linear>();
    WeightView &view = linear->view;
    view.exl2 = true;
    view.in_features = in_features;
    view.out_features = out_features;
    view.groups = groups;
    view.block_bytes = words * kBlockColumns * static_cast<int64_t>(sizeof(uint32_t));
    set_units(*linear, q_groups, groups, words);

    int32_t *sources = linear->sources.reserve(in_features);
    for (int64_t k = 0; k < in_features; ++k) sources[q_invperm[k]] = static_cast<int32_t>(k);
    context->inputs.reserve(kRowChunk * in_features);

    const int64_t blocks = blocks_of(out_features);
    unsigned char *target = linear->blocks.reserve(blocks * view.block_bytes);
    uint16_t *scales = linear->scales.reserve(blocks * groups * kBlockColumns);
    const auto factor = static_cast<float>(prescale / 256.0);
    context->pool.split(blocks, [&](int64_t begin, int64_t end, int) {
        for (int64_t block = begin; block < end; ++block) {
            unsigned char *stream = target + block * view.block_bytes;
            constexpr size_t kRowBytes = kBlockColumns * sizeof(uint32_t);
            for (int64_t word = 0; word < words; ++word) {
                const uint32_t *source = q_weight + word * stored_out_features + block * kBlockColumns;
                std::memcpy(stream + static_cast<size_t>(word) * kRowBytes, source, kRowBytes);
            }
            for (int64_t group = 0; group < groups; ++group) {
                const uint32_t *codes = q_scale + (group * stored_out_features + block * kBlockColumns) / 8;
                const float unit = round_to_half(half_to_float(q_scale_max[group]) * factor);
                set_scales(codes, unit, scales + (block * groups + group) * kBlockColumns);
            }
        }
    });
    view.blocks = target;
    view.scales = scales;
    set_bias(*linear, bias);
    return linear.release();
} catch (const std::bad_alloc &) {
    return nullptr;
}

quire_linear *quire_dense_create(quire_context *context, const void *weight, int32_t dtype, int64_t in_features,
                                 int64_t out_features, const float *bias) try {
    const std::lock_guard<std::mutex> lock(context->mutex);
    auto linear = std::make_unique<quire_linear>();
    WeightView &view = linear->view;
    view.exl2 = false;
    view.element = static_cast<Element>(dtype);
    view.in_features = in_features;
    view.out_features = out_features;
    view.block_bytes = in_features * kBlockColumns * element_size(view.element);

    const int64_t blocks = blocks_of(out_features);
    unsigned char *target = linear->blocks.reserve(blocks * view.block_bytes);
    std::memset(target + (blocks - 1) * view.block_bytes, 0, static_cast<size_t>(view.block_bytes));
    context->pool.split(blocks, [&](int64_t begin, int64_t end, int) {
        for (int64_t block = begin; block < end; ++block) {
            unsigned char *place = target + block * view.block_bytes;
            if (view.element == Element::kF32) {
                transpose_block(static_cast<const uint32_t *>(weight), in_features, out_features, block,
                                reinterpret_cast<uint32_t *>(place));
            } else {
                transpose_block(static_cast<const uint16_t *>(weight), in_features, out_features, block,
                                reinterpret_cast<uint16_t *>(place));
            }
        }
    });
    view.blocks = target;
    set_bias(*linear, bias);
    return linear.release();
} catch (const std::bad_alloc &) {
    return nullptr;
}

void quire_linear_destroy(quire_linear *linear) { delete linear; }

int64_t quire_linear_nbytes(const quire_linear *linear) {
    return linear->blocks.bytes() + linear->units.bytes() + linear->scales.bytes() + linear->bias.bytes() +
           linear->sources.bytes();
}

int32_t quire_linear_apply(quire_context *context, const quire_linear *linear, const float *x, int64_t rows,
                           float *out) try {
    const std::lock_guard<std::mutex> lock(context->mutex);
    const WeightView &view = linear->view;
    context->inputs.reserve(view.exl2 ? kRowChunk * view.in_features : 0);
    for (int64_t first = 0; first < rows; first += kRowChunk) {
        const int64_t count = rows - first < kRowChunk ? rows - first : kRowChunk;
        const float *inputs = x + first * view.in_features;
        if (view.exl2) inputs = gather_inputs(*context, *linear, inputs, count);
        float *outputs = out + first * view.out_features;
        context->pool.split(blocks_of(view.out_features), [&](int64_t begin, int64_t end, int thread) {
            float *scratch = context->thread_scratch[static_cast<size_t>(thread)].data();
            for (int64_t block = begin; block < end; ++block) {
                context->kernels.linear_block(view, block, inputs, count, outputs, scratch);
            }
        });
    }
    return QUIRE_OK;
} catch (const std::bad_alloc &) {
    return QUIRE_OUT_OF_MEMORY;
}
