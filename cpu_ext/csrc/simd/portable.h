// Vectors of eight floats in plain C++, for CPUs without kernels of their own and as the yardstick of the others.
// Multiply-add rounds twice here; everything else behaves as in the other instruction sets.
#pragma once

#include <cstdint>
#include <cstring>

#include "../half.h"

namespace quire {
namespace {

struct Simd {
    static constexpr int kWidth = 8;
    static constexpr int kMatmulRows = 4;
    static constexpr int kMatmulVectors = 1;

    struct Float {
        float lane[kWidth];
    };
    struct Int {
        uint32_t lane[kWidth];
    };

    template <class Function> static Float each(const Function &function) {
        Float result;
        for (int i = 0; i < kWidth; ++i) result.lane[i] = function(i);
        return result;
    }
    template <class Function> static Int each_int(const Function &function) {
        Int result;
        for (int i = 0; i < kWidth; ++i) result.lane[i] = function(i);
        return result;
    }

    static Float set(float value) {
        return each([&](int) { return value; });
    }
    static Float load(const float *from) {
        Float result;
        std::memcpy(result.lane, from, sizeof result.lane);
        return result;
    }
    static void store(float *to, Float v) { std::memcpy(to, v.lane, sizeof v.lane); }
    static Float load_f16(const uint16_t *from) {
        return each([&](int i) { return half_to_float(from[i]); });
    }
    static Float load_bf16(const uint16_t *from) {
        return each([&](int i) { return bfloat_to_float(from[i]); });
    }
    static void store_f16(uint16_t *to, Float v) {
        for (int i = 0; i < kWidth; ++i) to[i] = float_to_half(v.lane[i]);
    }
    static void store_bf16(uint16_t *to, Float v) {
        for (int i = 0; i < kWidth; ++i) to[i] = float_to_bfloat(v.lane[i]);
    }

    static Float add(Float a, Float b) {
        return each([&](int i) { return a.lane[i] + b.lane[i]; });
    }
    static Float sub(Float a, Float b) {
        return each([&](int i) { return a.lane[i] - b.lane[i]; });
    }
    static Float mul(Float a, Float b) {
        return each([&](int i) { return a.lane[i] * b.lane[i]; });
    }
    static Float div(Float a, Float b) {
        return each([&](int i) { return a.lane[i] / b.lane[i]; });
    }
    static Float fma(Float a, Float b, Float c) {
        return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
    }
    // The second operand where either is not a number, as on x86.
    static Float min(Float a, Float b) {
        return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Float max(Float a, Float b) {
        return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Float absolute(Float v) {
        return each([&](int i) { return v.lane[i] < 0.0f ? -v.lane[i] : v.lane[i]; });
    }
    // a where x < y, else b.
    static Float select_less(Float x, Float y, Float a, Float b) {
        return each([&](int i) { return x.lane[i] < y.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static Float round_to_half(Float v) {
        return each([&](int i) { return quire::round_to_half(v.lane[i]); });
    }
    // v * 2^n for an integer n in -126 .. 127; NaN where both are.
    static Float scale_by_power_of_two(Float v, Float n) {
        return each([&](int i) {
            const float shifted = n.lane[i] + 12582912.0f;  // 1.5 * 2^23: the low bits are now those of the integer n
            uint32_t bits;
            std::memcpy(&bits, &shifted, sizeof bits);
            bits = (bits + 127) << 23;
            float power;
            std::memcpy(&power, &bits, sizeof power);
            return v.lane[i] * power;
        });
    }
    static float sum(Float v) {
        return ((v.lane[0] + v.lane[4]) + (v.lane[2] + v.lane[6])) + ((v.lane[1] + v.lane[5]) + (v.lane[3] + v.lane[7]));
    }
    static float maximum(Float v) {
        float result = v.lane[0];
        for (int i = 1; i < kWidth; ++i) result = v.lane[i] > result ? v.lane[i] : result;
        return result;
    }

    static Int load_int(const uint32_t *from) {
        Int result;
        std::memcpy(result.lane, from, sizeof result.lane);
        return result;
    }
    static Int set_int(uint32_t value) {
        return each_int([&](int) { return value; });
    }
    template <int kBits> static Int shift_right(Int v) {
        return each_int([&](int i) { return v.lane[i] >> kBits; });
    }
    template <int kBits> static Int shift_left(Int v) {
        return each_int([&](int i) { return v.lane[i] << kBits; });
    }
    static Int bit_or(Int a, Int b) {
        return each_int([&](int i) { return a.lane[i] | b.lane[i]; });
    }
    static Int bit_and(Int a, Int b) {
        return each_int([&](int i) { return a.lane[i] & b.lane[i]; });
    }
    // Of integers below 2^24.
    static Float to_float(Int v) {
        return each([&](int i) { return static_cast<float>(static_cast<int32_t>(v.lane[i])); });
    }
};

}  // namespace
}  // namespace quire
