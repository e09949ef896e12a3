// Vectors of eight floats: AVX2 + FMA + F16C.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace quire {
namespace {

struct Simd {
    static constexpr int kWidth = 8;
    static constexpr int kMatmulRows = 6;
    static constexpr int kMatmulVectors = 2;

    using Float = __m256;
    using Int = __m256i;

    static Float set(float value) { return _mm256_set1_ps(value); }
    static Float load(const float *from) { return _mm256_loadu_ps(from); }
    static void store(float *to, Float v) { _mm256_storeu_ps(to, v); }
    static Float load_f16(const uint16_t *from) { return _mm256_cvtph_ps(load_sixteen_bytes(from)); }
    static Float load_bf16(const uint16_t *from) {
        return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_sixteen_bytes(from)), 16));
    }
    static void store_f16(uint16_t *to, Float v) {
        store_sixteen_bytes(to, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    static void store_bf16(uint16_t *to, Float v) {
        const Int bits = _mm256_castps_si256(v);
        const Int odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        const Int rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        const Int quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
        const Int is_nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
        const Int high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
        const Int packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0x08);
        store_sixteen_bytes(to, _mm256_castsi256_si128(packed));
    }

    static Float add(Float a, Float b) { return _mm256_add_ps(a, b); }
    static Float sub(Float a, Float b) { return _mm256_sub_ps(a, b); }
    static Float mul(Float a, Float b) { return _mm256_mul_ps(a, b); }
    static Float div(Float a, Float b) { return _mm256_div_ps(a, b); }
    static Float fma(Float a, Float b, Float c) { return _mm256_fmadd_ps(a, b, c); }
    // The second operand where either is not a number.
    static Float min(Float a, Float b) { return _mm256_min_ps(a, b); }
    static Float max(Float a, Float b) { return _mm256_max_ps(a, b); }
    static Float absolute(Float v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
    // a where x < y, else b.
    static Float select_less(Float x, Float y, Float a, Float b) {
        return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
    }
    static Float round_to_half(Float v) {
        return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
    // v * 2^n for an integer n in -126 .. 127.
    static Float scale_by_power_of_two(Float v, Float n) {
        const Int exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_mul_ps(v, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
    }
    static float sum(Float v) {
        const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    static float maximum(Float v) {
        const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
    }

    static Int load_int(const uint32_t *from) { return _mm256_loadu_si256(reinterpret_cast<const Int *>(from)); }
    static Int set_int(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
    template <int kBits> static Int shift_right(Int v) { return _mm256_srli_epi32(v, kBits); }
    template <int kBits> static Int shift_left(Int v) { return _mm256_slli_epi32(v, kBits); }
    static Int bit_or(Int a, Int b) { return _mm256_or_si256(a, b); }
    static Int bit_and(Int a, Int b) { return _mm256_and_si256(a, b); }
    // Of integers below 2^24.
    static Float to_float(Int v) { return _mm256_cvtepi32_ps(v); }

  private:
    static __m128i load_sixteen_bytes(const uint16_t *from) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i *>(from));
    }
    static void store_sixteen_bytes(uint16_t *to, __m128i v) { _mm_storeu_si128(reinterpret_cast<__m128i *>(to), v); }
};

}  // namespace
}  // namespace quire
