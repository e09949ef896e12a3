// Half precision and bfloat16 as types of their own, with the intrinsics that kernels use. Every operation rounds once,
// to nearest even: it is computed in double, which holds sums and products of halves exactly or far more closely than a
// half can tell.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "vector_types.h"

namespace emulation {

// `value` rounded to a number with `digits` significant bits and no bits below `quantum`, as a double.
inline double round_to(double value, int digits, double quantum, double overflow) {
    if (value == 0.0 || !std::isfinite(value)) return value;
    int exponent;
    std::frexp(value, &exponent);
    const double step = std::fmax(std::ldexp(1.0, exponent - digits), quantum);
    const double rounded = std::nearbyint(value / step) * step;
    return std::fabs(rounded) >= overflow ? std::copysign(INFINITY, value) : rounded;
}

inline uint16_t half_bits(double value) {
    const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
    if (std::isnan(value)) return 0x7fff;
    const double rounded = std::fabs(round_to(value, 11, 0x1p-24, 65536.0));
    if (std::isinf(rounded)) return sign | 0x7c00;
    if (rounded < 0x1p-14) return sign | static_cast<uint16_t>(rounded * 0x1p24);
    int exponent;
    const double mantissa = std::frexp(rounded, &exponent);  // in [0.5, 1)
    return sign | static_cast<uint16_t>((exponent + 14) << 10) | static_cast<uint16_t>((mantissa * 2 - 1) * 1024);
}

inline float half_value(uint16_t bits) {
    const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    float value;
    if (exponent == 31) {
        value = mantissa ? NAN : INFINITY;
    } else {
        value = std::ldexp(static_cast<float>(exponent ? mantissa + 1024 : mantissa), (exponent ? exponent : 1) - 25);
    }
    return bits & 0x8000 ? -value : value;
}

// All 65536 halves as floats: looking one up is quicker than working it out.
struct HalfTable {
    float values[65536];
    HalfTable() {
        for (int bits = 0; bits < 65536; ++bits) values[bits] = half_value(static_cast<uint16_t>(bits));
    }
};
inline const HalfTable half_table;

inline uint16_t bfloat_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (std::isnan(value)) return 0x7fff;
    return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline float bfloat_value(uint16_t bits) {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
}

}  // namespace emulation

struct __half {
    uint16_t bits;
};
struct __nv_bfloat16 {
    uint16_t bits;
};
struct alignas(4) __half2 {
    __half x, y;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};
using half = __half;
using half2 = __half2;

inline float __half2float(__half value) { return emulation::half_table.values[value.bits]; }
inline __half __float2half_rn(float value) { return {emulation::half_bits(value)}; }
inline __half __float2half(float value) { return __float2half_rn(value); }
inline __half __int2half_rn(int value) { return {emulation::half_bits(value)}; }
inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline float __bfloat162float(__nv_bfloat16 value) { return emulation::bfloat_value(value.bits); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return {emulation::bfloat_bits(value)}; }
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }

inline __half __hadd(__half a, __half b) {
    return {emulation::half_bits(static_cast<double>(__half2float(a)) + __half2float(b))};
}
inline __half __hsub(__half a, __half b) {
    return {emulation::half_bits(static_cast<double>(__half2float(a)) - __half2float(b))};
}
inline __half __hmul(__half a, __half b) {
    return {emulation::half_bits(static_cast<double>(__half2float(a)) * __half2float(b))};
}
inline __half __hfma(__half a, __half b, __half c) {
    return {emulation::half_bits(static_cast<double>(__half2float(a)) * __half2float(b) + __half2float(c))};
}

inline __half2 __halves2half2(__half low, __half high) { return {low, high}; }
inline __half2 __half2half2(__half value) { return {value, value}; }
inline __half __low2half(__half2 pair) { return pair.x; }
inline __half __high2half(__half2 pair) { return pair.y; }
inline __half2 __low2half2(__half2 pair) { return {pair.x, pair.x}; }
inline __half2 __high2half2(__half2 pair) { return {pair.y, pair.y}; }
inline float __low2float(__half2 pair) { return __half2float(pair.x); }
inline float __high2float(__half2 pair) { return __half2float(pair.y); }
inline float2 __half22float2(__half2 pair) { return {__half2float(pair.x), __half2float(pair.y)}; }
inline __half2 __floats2half2_rn(float low, float high) { return {__float2half_rn(low), __float2half_rn(high)}; }
inline __half2 __float22half2_rn(float2 pair) { return __floats2half2_rn(pair.x, pair.y); }
inline __half2 __hadd2(__half2 a, __half2 b) { return {__hadd(a.x, b.x), __hadd(a.y, b.y)}; }
inline __half2 __hsub2(__half2 a, __half2 b) { return {__hsub(a.x, b.x), __hsub(a.y, b.y)}; }
inline __half2 __hmul2(__half2 a, __half2 b) { return {__hmul(a.x, b.x), __hmul(a.y, b.y)}; }
inline __half2 __hfma2(__half2 a, __half2 b, __half2 c) { return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)}; }
inline float2 __bfloat1622float2(__nv_bfloat162 pair) { return {__bfloat162float(pair.x), __bfloat162float(pair.y)}; }
inline __nv_bfloat162 __floats2bfloat162_rn(float low, float high) {
    return {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
}
