// Matrix times activations, for any instruction set that provides `Simd`.
//
// Columns run along vector lanes. K is taken in tiles of kTileRows stored rows: the tile's weights are decoded once to
// floats in scratch memory, then every activation row is multiplied with it. An output is
//
//     sum over tiles of (fma chain over the tile's rows, in stored order, starting from 0)  (+ bias)
//
// and nothing else, whether it is computed alone or in a register tile with other rows: that is batch invariance.
#pragma once

#include "../kernels.h"

namespace quire {
namespace {

using Float = Simd::Float;
using Int = Simd::Int;

constexpr int kWidth = Simd::kWidth;
constexpr int kBlockVectors = kBlockColumns / kWidth;

// ---- EXL2 -----------------------------------------------------------------------------------------------------------

// The code of row kRow in a unit of kBits-bit codes: bits kRow * kBits ... of each column's little-endian bit stream.
template <int kBits, int kRow> inline Int extract_code(const Int *words) {
    constexpr int kWord = kRow * kBits / 32;
    constexpr int kShift = kRow * kBits % 32;
    Int code = Simd::shift_right<kShift>(words[kWord]);
    if constexpr (kShift + kBits > 32) {
        code = Simd::bit_or(code, Simd::shift_left<32 - kShift>(words[kWord + 1]));
    }
    if constexpr (kShift + kBits != 32) code = Simd::bit_and(code, Simd::set_int((1u << kBits) - 1u));
    return code;
}

// Decodes rows kRow .. kUnitRows - 1 of one vector of columns: w = RN16((q - 2^(b-1)) * t). The product is exact in
// float32, and so are q * t, 2^(b-1) * t and their difference, so one multiply-add computes it.
template <int kBits, int kRow> inline void decode_rows(const Int *words, Float t, Float minus_zero_t, float *tile) {
    if constexpr (kRow < kUnitRows) {
        const Float code = Simd::to_float(extract_code<kBits, kRow>(words));
        Float weight = Simd::fma(code, t, minus_zero_t);
        // At 2 bits q - 2 is -2, -1, 0 or 1, and the product with the half t a half already.
        if constexpr (kBits > 2) weight = Simd::round_to_half(weight);
        Simd::store(tile + kRow * kBlockColumns, weight);
        decode_rows<kBits, kRow + 1>(words, t, minus_zero_t, tile);
    }
}

template <int kBits> void decode_unit(const uint32_t *stream, const uint16_t *scales, float *tile) {
    const Float minus_zero = Simd::set(-static_cast<float>(1 << (kBits - 1)));
    for (int v = 0; v < kBlockVectors; ++v) {
        Int words[kBits];
        for (int word = 0; word < kBits; ++word) {
            words[word] = Simd::load_int(stream + word * kBlockColumns + v * kWidth);
        }
        const Float t = Simd::load_f16(scales + v * kWidth);
        decode_rows<kBits, 0>(words, t, Simd::mul(minus_zero, t), tile + v * kWidth);
    }
}

void decode_exl2_tile(const WeightView &weights, int64_t block, int64_t first_row, int64_t rows, float *tile) {
    const auto *streams = reinterpret_cast<const uint32_t *>(weights.blocks + block * weights.block_bytes);
    const uint16_t *scales = weights.scales + block * weights.groups * kBlockColumns;
    for (int64_t row = 0; row < rows; row += kUnitRows, tile += kUnitRows * kBlockColumns) {
        const Exl2Unit &unit = weights.units[(first_row + row) / kUnitRows];
        const uint32_t *stream = streams + static_cast<int64_t>(unit.first_word) * kBlockColumns;
        const uint16_t *t = scales + static_cast<int64_t>(unit.group) * kBlockColumns;
        switch (unit.bits) {
            case 2: decode_unit<2>(stream, t, tile); break;
            case 3: decode_unit<3>(stream, t, tile); break;
            case 4: decode_unit<4>(stream, t, tile); break;
            case 5: decode_unit<5>(stream, t, tile); break;
            case 6: decode_unit<6>(stream, t, tile); break;
            default: decode_unit<8>(stream, t, tile); break;
        }
    }
}

// ---- dense ----------------------------------------------------------------------------------------------------------

// The tile as floats: in place for float32, else converted into `tile`.
const float *decode_dense_tile(const WeightView &weights, int64_t block, int64_t first_row, int64_t rows, float *tile) {
    const unsigned char *source = weights.blocks + block * weights.block_bytes;
    const int64_t first = first_row * kBlockColumns;
    if (weights.element == Element::kF32) return reinterpret_cast<const float *>(source) + first;
    const uint16_t *halves = reinterpret_cast<const uint16_t *>(source) + first;
    const bool is_f16 = weights.element == Element::kF16;
    for (int64_t i = 0; i < rows * kBlockColumns; i += kWidth) {
        Simd::store(tile + i, is_f16 ? Simd::load_f16(halves + i) : Simd::load_bf16(halves + i));
    }
    return tile;
}

// ---- the product ----------------------------------------------------------------------------------------------------

// totals[kRows, 32] += x[kRows, rows] @ tile[rows, 32], kVectors vectors of columns at a time.
template <int kRows, int kVectors>
inline void multiply_tile(const float *x, int64_t x_stride, const float *tile, int64_t rows, float *totals) {
    for (int v0 = 0; v0 < kBlockVectors; v0 += kVectors) {
        Float sums[kRows][kVectors];
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) sums[r][v] = Simd::set(0.0f);
        }
        const float *weights = tile + v0 * kWidth;
        for (int64_t k = 0; k < rows; ++k) {
            Float w[kVectors];
            for (int v = 0; v < kVectors; ++v) w[v] = Simd::load(weights + k * kBlockColumns + v * kWidth);
            for (int r = 0; r < kRows; ++r) {
                const Float activation = Simd::set(x[r * x_stride + k]);
                for (int v = 0; v < kVectors; ++v) sums[r][v] = Simd::fma(activation, w[v], sums[r][v]);
            }
        }
        for (int r = 0; r < kRows; ++r) {
            for (int v = 0; v < kVectors; ++v) {
                float *total = totals + r * kBlockColumns + (v0 + v) * kWidth;
                Simd::store(total, Simd::add(Simd::load(total), sums[r][v]));
            }
        }
    }
}

// The last few rows, fewer than a register tile holds. Few rows mean few chains of multiply-adds in flight: take the
// whole width of the block at once then.
template <int kRows>
inline void multiply_rest(const float *x, int64_t x_stride, const float *tile, int64_t rows, int64_t count,
                          float *totals) {
    if constexpr (kRows > 0) {
        constexpr int kVectors = kRows <= 2 ? kBlockVectors : Simd::kMatmulVectors;
        if (count == kRows) return multiply_tile<kRows, kVectors>(x, x_stride, tile, rows, totals);
        multiply_rest<kRows - 1>(x, x_stride, tile, rows, count, totals);
    }
}

void multiply(const float *x, int64_t x_stride, const float *tile, int64_t rows, int64_t count, float *totals) {
    constexpr int kRows = Simd::kMatmulRows;
    int64_t row = 0;
    for (; row + kRows <= count; row += kRows) {
        multiply_tile<kRows, Simd::kMatmulVectors>(x + row * x_stride, x_stride, tile, rows,
                                                   totals + row * kBlockColumns);
    }
    multiply_rest<kRows - 1>(x + row * x_stride, x_stride, tile, rows, count - row, totals + row * kBlockColumns);
}

void linear_block(const WeightView &weights, int64_t block, const float *x, int64_t rows, float *out, float *scratch) {
    float *tile = scratch;
    float *totals = scratch + kTileRows * kBlockColumns;
    for (int64_t i = 0; i < rows * kBlockColumns; ++i) totals[i] = 0.0f;

    const int64_t inputs = weights.in_features;
    for (int64_t first_row = 0; first_row < inputs; first_row += kTileRows) {
        const int64_t tile_rows = inputs - first_row < kTileRows ? inputs - first_row : kTileRows;
        const float *decoded = tile;
        if (weights.exl2) {
            decode_exl2_tile(weights, block, first_row, tile_rows, tile);
        } else {
            decoded = decode_dense_tile(weights, block, first_row, tile_rows, tile);
        }
        multiply(x + first_row, inputs, decoded, tile_rows, rows, totals);
    }

    const int64_t first_column = block * kBlockColumns;
    const int64_t left = weights.out_features - first_column;
    const int64_t columns = left < kBlockColumns ? left : kBlockColumns;
    for (int64_t row = 0; row < rows; ++row) {
        float *target = out + row * weights.out_features + first_column;
        const float *total = totals + row * kBlockColumns;
        for (int64_t c = 0; c < columns; ++c) {
            target[c] = weights.bias != nullptr ? total[c] + weights.bias[first_column + c] : total[c];
        }
    }
}

}  // namespace
}  // namespace quire
