// Conversions, norm, rotary embedding and activation, for any instruction set that provides `Simd`.
//
// What a lane computes does not depend on which lane it is, and the last, partial vector of a row goes through the same
// instructions on a copy padded with zeros: so it does not matter where a row or a part of it begins.
#pragma once

#include <cstddef>

#include "../half.h"
#include "../kernels.h"

namespace quire {
namespace {

inline Simd::Float load_part(const float *from, int64_t count) {
    float padded[Simd::kWidth] = {};
    for (int64_t i = 0; i < count; ++i) padded[i] = from[i];
    return Simd::load(padded);
}

inline void store_part(float *to, Simd::Float v, int64_t count) {
    float padded[Simd::kWidth];
    Simd::store(padded, v);
    for (int64_t i = 0; i < count; ++i) to[i] = padded[i];
}

// to[i] = function(a[i], b[i]) for vectors of a and b.
template <class Function>
inline void map(const float *a, const float *b, int64_t count, float *to, const Function &function) {
    int64_t i = 0;
    for (; i + Simd::kWidth <= count; i += Simd::kWidth) {
        Simd::store(to + i, function(Simd::load(a + i), Simd::load(b + i)));
    }
    if (i < count) {
        const int64_t rest = count - i;
        store_part(to + i, function(load_part(a + i, rest), load_part(b + i, rest)), rest);
    }
}

// e^x, within 2 units in the last place; 0 below the normal numbers, infinity above, NaN kept.
inline Simd::Float exponential(Simd::Float x) {
    // e^x = 2^n * e^r with n = round(x / ln 2), |r| <= ln 2 / 2; ln 2 in two parts so that r is exact enough.
    const Simd::Float bounded = Simd::max(Simd::set(-88.0f), Simd::min(Simd::set(88.7f), x));
    const Simd::Float magic = Simd::set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
    const Simd::Float n = Simd::sub(Simd::add(Simd::mul(bounded, Simd::set(1.44269504f)), magic), magic);
    const Simd::Float high = Simd::sub(bounded, Simd::mul(n, Simd::set(0.693359375f)));
    const Simd::Float r = Simd::sub(high, Simd::mul(n, Simd::set(-2.12194440e-4f)));
    // Taylor to the 7th power; the rest is below 6e-9 of the result.
    constexpr float kFactorials[] = {720.0f, 120.0f, 24.0f, 6.0f, 2.0f, 1.0f, 1.0f};
    Simd::Float sum = Simd::set(1.0f / 5040.0f);
    for (int i = 0; i < 7; ++i) sum = Simd::fma(sum, r, Simd::set(1.0f / kFactorials[i]));
    // 2^n in two factors: n reaches 128, whose power of two is no float.
    const Simd::Float half = Simd::sub(Simd::add(Simd::mul(n, Simd::set(0.5f)), magic), magic);
    Simd::Float result = Simd::scale_by_power_of_two(sum, half);
    result = Simd::scale_by_power_of_two(result, Simd::sub(n, half));
    result = Simd::select_less(x, Simd::set(-87.3f), Simd::set(0.0f), result);
    return Simd::select_less(Simd::set(88.72f), x, Simd::set(__builtin_inff()), result);
}

void convert_to_float(const void *source, Element element, int64_t count, float *out) {
    if (element == Element::kF32) {
        __builtin_memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
        return;
    }
    const bool is_f16 = element == Element::kF16;
    const auto *halves = static_cast<const uint16_t *>(source);
    int64_t i = 0;
    for (; i + Simd::kWidth <= count; i += Simd::kWidth) {
        Simd::store(out + i, is_f16 ? Simd::load_f16(halves + i) : Simd::load_bf16(halves + i));
    }
    for (; i < count; ++i) out[i] = is_f16 ? half_to_float(halves[i]) : bfloat_to_float(halves[i]);
}

void convert_from_float(const float *source, Element element, int64_t count, void *out) {
    if (element == Element::kF32) {
        __builtin_memcpy(out, source, static_cast<size_t>(count) * sizeof(float));
        return;
    }
    const bool is_f16 = element == Element::kF16;
    auto *halves = static_cast<uint16_t *>(out);
    int64_t i = 0;
    for (; i + Simd::kWidth <= count; i += Simd::kWidth) {
        const Simd::Float v = Simd::load(source + i);
        if (is_f16) {
            Simd::store_f16(halves + i, v);
        } else {
            Simd::store_bf16(halves + i, v);
        }
    }
    for (; i < count; ++i) halves[i] = is_f16 ? float_to_half(source[i]) : float_to_bfloat(source[i]);
}

void rms_norm_row(const float *x, const void *weight, Element element, float eps, int64_t width, float *out) {
    Simd::Float squares[4] = {Simd::set(0.0f), Simd::set(0.0f), Simd::set(0.0f), Simd::set(0.0f)};
    int64_t i = 0;
    for (; i + 4 * Simd::kWidth <= width; i += 4 * Simd::kWidth) {
        for (int part = 0; part < 4; ++part) {
            const Simd::Float v = Simd::load(x + i + part * Simd::kWidth);
            squares[part] = Simd::fma(v, v, squares[part]);
        }
    }
    for (; i < width; i += Simd::kWidth) {
        const int64_t count = width - i < Simd::kWidth ? width - i : Simd::kWidth;
        const Simd::Float v = load_part(x + i, count);
        squares[0] = Simd::fma(v, v, squares[0]);
    }
    const float sum = Simd::sum(Simd::add(Simd::add(squares[0], squares[2]), Simd::add(squares[1], squares[3])));
    const Simd::Float factor = Simd::set(1.0f / __builtin_sqrtf(sum / static_cast<float>(width) + eps));

    const auto normalize = [factor](Simd::Float v, Simd::Float w) { return Simd::mul(Simd::mul(v, factor), w); };
    constexpr int64_t kPiece = 256;
    float piece[kPiece];
    for (int64_t first = 0; first < width; first += kPiece) {
        const int64_t count = width - first < kPiece ? width - first : kPiece;
        const auto *source = static_cast<const unsigned char *>(weight) + first * element_size(element);
        convert_to_float(source, element, count, piece);
        map(x + first, piece, count, out + first, normalize);
    }
}

void rotate_head(float *head, const float *cos, const float *sin, int64_t half) {
    for (int64_t i = 0; i < half; i += Simd::kWidth) {
        const int64_t count = half - i < Simd::kWidth ? half - i : Simd::kWidth;
        const Simd::Float low = load_part(head + i, count);
        const Simd::Float high = load_part(head + half + i, count);
        const Simd::Float c = load_part(cos + i, count);
        const Simd::Float s = load_part(sin + i, count);
        store_part(head + i, Simd::sub(Simd::mul(low, c), Simd::mul(high, s)), count);
        store_part(head + half + i, Simd::add(Simd::mul(high, c), Simd::mul(low, s)), count);
    }
}

// silu(g) = g / (1 + e^-g), with the exponential always of a negative number so that it cannot overflow.
void silu_mul(const float *gate, const float *up, int64_t count, float *out) {
    map(gate, up, count, out, [](Simd::Float g, Simd::Float u) {
        const Simd::Float one = Simd::set(1.0f);
        const Simd::Float zero = Simd::set(0.0f);
        const Simd::Float e = exponential(Simd::sub(zero, Simd::absolute(g)));
        const Simd::Float sigmoid = Simd::div(Simd::select_less(g, zero, e, one), Simd::add(one, e));
        return Simd::mul(Simd::mul(g, sigmoid), u);
    });
}

void add(const float *x, int64_t count, float *residual) {
    map(residual, x, count, residual, [](Simd::Float a, Simd::Float b) { return Simd::add(a, b); });
}

}  // namespace
}  // namespace quire
