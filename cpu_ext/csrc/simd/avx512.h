// Vectors of sixteen floats: AVX-512 F + BW + VL + DQ.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace quire {
namespace {

struct Simd {
    static constexpr int kWidth = 16;
    static constexpr int kMatmulRows = 8;
    static constexpr int kMatmulVectors = 2;

    using Float = __m512;
    using Int = __m512i;

    static Float set(float value) { return _mm512_set1_ps(value); }
    static Float load(const float *from) { return _mm512_loadu_ps(from); }
    static void store(float *to, Float v) { _mm512_storeu_ps(to, v); }
    static Float load_f16(const uint16_t *from) { return _mm512_cvtph_ps(load_half_vector(from)); }
    static Float load_bf16(const uint16_t *from) {
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load_half_vector(from)), 16));
    }
    static void store_f16(uint16_t *to, Float v) {
        store_half_vector(to, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    static void store_bf16(uint16_t *to, Float v) {
        const Int bits = _mm512_castps_si512(v);
        const Int odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        const Int rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        const Int quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
        const __mmask16 is_nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
        const Int high = _mm512_srli_epi32(_mm512_mask_blend_epi32(is_nan, rounded, quiet), 16);
        store_half_vector(to, _mm512_cvtepi32_epi16(high));
    }

    static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm512_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm512_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
    // The second operand where either is not a number.
    static Float min(Float a, Float b) { return _mm512_min_ps(a, b); }
    static Float max(Float a, Float b) { return _mm512_max_ps(a, b); }
    static Float absolute(Float v) { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), v); }
    // a where x < y, else b.
    static Float select_less(Float x, Float y, Float a, Float b) {
        return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
    }
    static Float round_to_half(Float v) {
        return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    // v * 2^n for an integer n in -126 .. 127.
    static Float scale_by_power_of_two(Float v, Float n) {
        const Int exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        return _mm512_mul_ps(v, _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23)));
    }
    static float sum(Float v) {
        const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static float maximum(Float v) { return _mm512_reduce_max_ps(v); }

    static Int load_int(const uint32_t *from) { return _mm512_loadu_si512(from); }
    static Int set_int(uint32_t value) { return _mm512_set1_epi32(static_cast<int>(value)); }
    template <int kBits> static Int shift_right(Int v) { return _mm512_srli_epi32(v, kBits); }
    template <int kBits> static Int shift_left(Int v) { return _mm512_slli_epi32(v, kBits); }
    static Int bit_or(Int a, Int b) { return _mm512_or_si512(a, b); }
    static Int bit_and(Int a, Int b) { return _mm512_and_si512(a, b); }
    // Of integers below 2^24.
    static Float to_float(Int v) { return _mm512_cvtepi32_ps(v); }

  private:
    static __m256i load_half_vector(const uint16_t *from) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
    }
    static void store_half_vector(uint16_t *to, __m256i v) {
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), v);
    }
};

}  // namespace
}  // namespace quire
