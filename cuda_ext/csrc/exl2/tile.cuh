// Tiles of an EXL2 matrix, in the layout that engine/ops/exl2_tiles.py draws, and the way from their bits to fragments of A.
//
// A half with exponent field 25 holds 1024 + its mantissa, so or-ing a code of up to 10 bits into 0x6400 makes the number 1024 + code
// without a conversion; a code that stands s bits higher comes out as 1024 + 2^s code, and one fused multiply-add, exact in halves,
// takes it to code - 2^(width - 1). Two codes go at once. A last multiplication by the scale makes the very half that the format
// defines (its third rounding), so products are those of the exactly decoded matrix.
#pragma once

#include "../common/memory.cuh"
#include "../common/numbers.cuh"
#include "../common/platform.cuh"

namespace quire {
namespace exl2 {

constexpr int kTileRows = 32;
constexpr int kTileColumns = 128;
constexpr int kPlaneQuads = 32;   // uint4 in a plane of a tile, one for each lane
constexpr int kRecordQuads = 5;   // uint4 in a group's scale record
constexpr int kColumnBlocks = 8;  // of 16 columns in a tile
constexpr int kSteps = 2;         // of 16 rows
constexpr int kTileQuarters = 4;  // of 32 columns each

// One entry of the tile table: where the tile's planes start in its column block, its group and width.
struct Tile {
    int plane, group, width;
};

__device__ __forceinline__ Tile read_tile(const int32_t *tiles, int index) {
    const int2 entry = load<int2>(tiles + 2 * index);
    return {entry.x, entry.y >> 8, entry.y & 0xff};
}

// How codes are cut into a low part and the bits above it.
template <int kWidth>
struct Parts {
    static constexpr int kLow = kWidth == 8 ? 8 : kWidth >= 4 ? 4 : 2;
    static constexpr int kHigh = kWidth - kLow;
};

__device__ __forceinline__ uint32_t as_bits(__half2 pair) {
    uint32_t bits;
    memcpy(&bits, &pair, sizeof bits);
    return bits;
}

__device__ __forceinline__ __half2 as_halves(uint32_t bits) {
    __half2 pair;
    memcpy(&pair, &bits, sizeof pair);
    return pair;
}

// The number in both halves.
__device__ __forceinline__ __half2 twice(float value) { return __half2half2(__float2half_rn(value)); }

// (value & mask) | bits
__device__ __forceinline__ uint32_t merge(uint32_t value, uint32_t mask, uint32_t bits) {
    return lop3<0xea>(value, mask, bits);
}

__device__ constexpr uint32_t in_both_halves(uint32_t bits) { return bits << 16 | bits; }
constexpr uint32_t kMagic = 0x64006400;

// code - 2^(kWidth - 1) of both rows of pair `pair` (a constant once loops are unrolled) of the lane's words, which are those of
// a tile or of a quarter of one: low parts first.
template <int kWidth, int kWords>
__device__ __forceinline__ __half2 levels_of_pair(const uint32_t (&words)[kWords], int pair) {
    constexpr int kLow = Parts<kWidth>::kLow, kHigh = Parts<kWidth>::kHigh;
    constexpr int kPerByte = 8 / kLow;
    const int field = pair % (16 / kLow);
    const int within_byte = kLow * (field % kPerByte);
    const uint32_t low = words[pair / (16 / kLow)] >> (8 * (field / kPerByte));
    uint32_t bits = merge(low, in_both_halves(((1u << kLow) - 1) << within_byte), kMagic);
    if constexpr (kHigh != 0) {
        constexpr int kBytesApart = kLow / kHigh;
        const int byte = pair % (16 / kHigh) / kPerByte;
        const int shift = kHigh * (byte % kBytesApart) + 8 * (byte / kBytesApart) - kLow;
        const uint32_t word = words[kWords / kWidth * kLow + pair / (16 / kHigh)];
        const uint32_t high = shift >= 0 ? word >> (shift & 31) : word << (-shift & 31);
        bits = merge(high, in_both_halves(((1u << kHigh) - 1) << (kLow + within_byte)), bits);
    }
    const float unit = 1.0f / static_cast<float>(1 << within_byte);
    const float zero = 1024.0f * unit + static_cast<float>(1 << (kWidth - 1));
    return __hfma2(as_halves(bits), twice(unit), twice(-zero));
}

// The scales a lane needs of one group, those of columns 16 m + g and 16 m + 8 + g as a pair.
struct Scales {
    uint32_t pairs[kColumnBlocks];
};

// The scales half((code + 1)^2 unit) of two codes, in bits 0 … 3 and 16 … 19 of `codes`, or 4 above. The square is exact.
__device__ __forceinline__ uint32_t scale_pair(uint32_t codes, bool above, __half2 unit) {
    const uint32_t bits = merge(codes, in_both_halves(above ? 0x00f0 : 0x000f), kMagic);
    const __half2 root = above ? __hfma2(as_halves(bits), twice(0.0625f), twice(-63.0f))
                               : __hadd2(as_halves(bits), twice(-1023.0f));
    return as_bits(__hmul2(__hmul2(root, root), unit));
}

// From the group's record.
__device__ __forceinline__ Scales read_scales(const uint4 *record, int lane) {
    const auto *words = reinterpret_cast<const uint32_t *>(record);
    const uint2 codes = load<uint2>(words + 2 * (lane / 4));
    const __half2 unit = as_halves(words[16]);
    Scales scales;
#pragma unroll
    for (int m = 0; m < kColumnBlocks; ++m) {
        scales.pairs[m] = scale_pair((m < 4 ? codes.x : codes.y) >> (8 * (m % 4 / 2)), m % 2 == 1, unit);
    }
    return scales;
}

// Of column blocks 2 `quarter` and the next only.
__device__ __forceinline__ void read_quarter_scales(const uint4 *record, int lane, int quarter, uint32_t (&pairs)[2]) {
    const auto *words = reinterpret_cast<const uint32_t *>(record);
    const uint32_t codes = words[2 * (lane / 4) + quarter / 2] >> (8 * (quarter % 2));
    const __half2 unit = as_halves(words[16]);
    pairs[0] = scale_pair(codes, false, unit);
    pairs[1] = scale_pair(codes, true, unit);
}

// The fragment of A for column block m and step k of the words, with that block's scales: 16 columns of the matrix by 16 of the
// tile's rows.
template <int kWidth, int kWords>
__device__ __forceinline__ void weight_fragment(const uint32_t (&words)[kWords], uint32_t scales, int m, int k,
                                                uint32_t (&a)[4]) {
#pragma unroll
    for (int s = 0; s < 2; ++s) {
#pragma unroll
        for (int d = 0; d < 2; ++d) {
            const __half2 levels = levels_of_pair<kWidth>(words, 8 * m + 4 * k + 2 * s + d);
            const uint32_t scale = pick_bytes(scales, 0, d == 0 ? 0x1010 : 0x3232);
            a[2 * s + d] = as_bits(__hmul2(levels, as_halves(scale)));
        }
    }
}

// The lane's words of a tile of this width; `planes` points to its 16 bytes of the first plane.
template <int kWidth>
__device__ __forceinline__ void read_words(const uint4 *planes, uint32_t (&words)[4 * kWidth]) {
#pragma unroll
    for (int plane = 0; plane < kWidth; ++plane) {
        const uint4 quad = load<uint4>(planes + plane * kPlaneQuads);
        words[4 * plane] = quad.x;
        words[4 * plane + 1] = quad.y;
        words[4 * plane + 2] = quad.z;
        words[4 * plane + 3] = quad.w;
    }
}

// kBits words of each lane out of as many planes of four, those of one quarter of the columns.
template <int kBits>
__device__ __forceinline__ void read_quarter_part(const uint4 *planes, int quarter, uint32_t *words) {
    if constexpr (kBits == 1) {
        words[0] = load<uint32_t>(reinterpret_cast<const uint32_t *>(planes) + quarter);
    } else if constexpr (kBits == 2) {
        const uint2 pair = load<uint2>(reinterpret_cast<const uint2 *>(planes + quarter / 2 * kPlaneQuads) + quarter % 2);
        words[0] = pair.x;
        words[1] = pair.y;
    } else {
#pragma unroll
        for (int plane = 0; plane < kBits / 4; ++plane) {
            const uint4 quad = load<uint4>(planes + (quarter * kBits / 4 + plane) * kPlaneQuads);
            words[4 * plane] = quad.x;
            words[4 * plane + 1] = quad.y;
            words[4 * plane + 2] = quad.z;
            words[4 * plane + 3] = quad.w;
        }
    }
}

// The words of column blocks 2 `quarter` and the next.
template <int kWidth>
__device__ __forceinline__ void read_quarter_words(const uint4 *planes, int quarter, uint32_t (&words)[kWidth]) {
    constexpr int kLow = Parts<kWidth>::kLow, kHigh = Parts<kWidth>::kHigh;
    read_quarter_part<kLow>(planes, quarter, words);
    if constexpr (kHigh != 0) read_quarter_part<kHigh>(planes + kLow * kPlaneQuads, quarter, words + kLow);
}

template <int kValue>
struct Constant {
    static constexpr int value = kValue;
};

// Calls `use` with the width as a constant.
template <typename Use>
__device__ __forceinline__ void with_width(int width, Use use) {
    switch (width) {
        case 2: return use(Constant<2>());
        case 3: return use(Constant<3>());
        case 4: return use(Constant<4>());
        case 5: return use(Constant<5>());
        case 6: return use(Constant<6>());
        default: return use(Constant<8>());
    }
}

}  // namespace exl2
}  // namespace quire
