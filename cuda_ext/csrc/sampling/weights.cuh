// From logits to numbers that can be ordered, and added up exactly.
//
// A token's weight is exp((logit - largest) / temperature), between 0 and 1, cut to a multiple of 2^-44. In these units
// weights are whole numbers, so their sums are exact and the same in any order. Every operation is one that IEEE 754
// rounds in one way only, so that weights are the same on every device; engine/sampling/device_reference.py is the same
// in numpy.
//
// The bits of a positive float are ordered as its value is. Weights fall into bins by exponent and the first four bits of
// the mantissa; the other bits are the rest.
#pragma once

#include "../common/platform.cuh"
#include "sampling.h"

namespace quire::sampling {

constexpr int kRestBits = 19;
constexpr int kUnitExponent = -44;  // a unit of mass is 2 to this power
constexpr int kMantissaBits = 23;
constexpr int kFirstBin = (127 + kUnitExponent) << (kMantissaBits - kRestBits);
constexpr int kBins = (127 << (kMantissaBits - kRestBits)) - kFirstBin + 1;  // the last is that of weight 1 alone
static_assert(kBins == QUIRE_CUDA_SAMPLING_BINS, "the caller makes room for the bins");
static_assert(kRestBits + kLocalBits <= 32, "rest and id of a token share a word");

__device__ __forceinline__ int bin_of(uint32_t weight) { return static_cast<int>(weight >> kRestBits) - kFirstBin; }
__device__ __forceinline__ uint32_t rest_of(uint32_t weight) { return weight & ((1u << kRestBits) - 1); }

// The mantissa of the smallest weight in a bin, its leading one included.
__device__ __forceinline__ uint32_t first_mantissa(int bin) { return (16u + bin % 16) << kRestBits; }

// The mass of weights in one bin whose mantissas add up to `mantissas`. No bit is lost: small weights are cut already.
__device__ __forceinline__ Mass mass_of(int bin, Mass mantissas) {
    const int shift = bin / 16 - kMantissaBits;
    return shift >= 0 ? mantissas << shift : mantissas >> -shift;
}

__device__ __forceinline__ Mass mass_of(uint32_t weight) {
    return weight == 0 ? 0 : mass_of(bin_of(weight), first_mantissa(bin_of(weight)) | rest_of(weight));
}

// exp of a number from -31 to 0, within three units in the last place and never above 1. The argument is a
// multiple of ln 2, taken off in two parts, and a remainder, whose Taylor series to the sixth power is enough.
__device__ __forceinline__ float exp_of(float x) {
    const float turns = rintf(__fmul_rn(x, 1.44269504f));
    float r = __fadd_rn(x, __fmul_rn(turns, -0.693359375f));
    r = __fadd_rn(r, __fmul_rn(turns, 2.12194440e-4f));
    float y = 1.0f / 720.0f;
    y = __fadd_rn(__fmul_rn(y, r), 1.0f / 120.0f);
    y = __fadd_rn(__fmul_rn(y, r), 1.0f / 24.0f);
    y = __fadd_rn(__fmul_rn(y, r), 1.0f / 6.0f);
    y = __fadd_rn(__fmul_rn(y, r), 0.5f);
    y = __fadd_rn(__fmul_rn(__fmul_rn(y, r), r), r);
    y = __fadd_rn(y, 1.0f);
    const float value = __uint_as_float(__float_as_uint(y) + (static_cast<uint32_t>(static_cast<int>(turns)) << 23));
    return fminf(value, 1.0f);
}

// The bits of a token's weight, 0 where it is below 2^-44. `largest` is the row's largest logit.
__device__ __forceinline__ uint32_t weigh(float logit, float largest, float temperature) {
    const float x = __fdiv_rn(__fadd_rn(logit, -largest), temperature);
    if (!(x >= -31.0f)) return 0;  // NaN, too, which is found elsewhere
    const uint32_t bits = __float_as_uint(exp_of(x));
    const int exponent = static_cast<int>(bits >> kMantissaBits) - 127;
    if (exponent < kUnitExponent) return 0;
    const int below_units = kUnitExponent + kMantissaBits - exponent;
    return below_units > 0 ? bits >> below_units << below_units : bits;
}

// Packs a logit and its token so that the larger is the one to be taken: the larger logit, the lower token among equals.
__device__ __forceinline__ Mass rank_of(float logit, int token) {
    const uint32_t bits = __float_as_uint(__fadd_rn(logit, 0.0f));  // -0 becomes 0, which it equals
    const uint32_t ordered = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
    return static_cast<Mass>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(token));
}

__device__ __forceinline__ float logit_of(Mass rank) {
    const uint32_t ordered = static_cast<uint32_t>(rank >> 32);
    return __uint_as_float((ordered & 0x80000000u) != 0 ? ordered & 0x7fffffffu : ~ordered);
}

__device__ __forceinline__ int token_of(Mass rank) {
    return static_cast<int>(0xffffffffu - static_cast<uint32_t>(rank));
}

}  // namespace quire::sampling
