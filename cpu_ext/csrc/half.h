// Half precision and bfloat16 one number at a time, rounding to nearest even with gradual underflow.
#pragma once

#include <cstdint>
#include <cstring>

namespace quire {
namespace {

[[maybe_unused]] inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

[[maybe_unused]] inline float float_of(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// The half nearest to `value`, as a float. Written without branches so that compilers can vectorise it.
[[maybe_unused]] inline float round_to_half(float value) {
    const uint32_t bits = bits_of(value);
    const uint32_t magnitude = bits & 0x7fffffffu;
    const uint32_t sign = bits & 0x80000000u;
    // Normal halves: drop 13 bits of the mantissa; the odd bit above them breaks ties towards even.
    const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u)) & ~0x1fffu;
    // Below 2^-14 halves are multiples of 2^-24, which is the distance of floats next to 0.5.
    const uint32_t subnormal = bits_of((float_of(magnitude) + 0.5f) - 0.5f);
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : (normal >= 0x47800000u ? 0x7f800000u : normal);
    return float_of(sign | (magnitude > 0x7f800000u ? magnitude : finite));
}

[[maybe_unused]] inline uint16_t float_to_half(float value) {
    const uint32_t bits = bits_of(round_to_half(value));
    const uint32_t sign = (bits >> 16) & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
    if (magnitude == 0x7f800000u) return static_cast<uint16_t>(sign | 0x7c00u);
    if (magnitude >= 0x38800000u) return static_cast<uint16_t>(sign | ((magnitude - 0x38000000u) >> 13));
    return static_cast<uint16_t>(sign | static_cast<uint32_t>(float_of(magnitude) * 16777216.0f));
}

[[maybe_unused]] inline float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t magnitude = half & 0x7fffu;
    // Shifted into place the exponent is too small by 112, which a multiplication by 2^112 repairs, subnormals included.
    const uint32_t finite = bits_of(float_of(magnitude << 13) * float_of((127u + 112u) << 23));
    return float_of(sign | (magnitude >= 0x7c00u ? (magnitude << 13) | 0x7f800000u : finite));
}

[[maybe_unused]] inline uint16_t float_to_bfloat(float value) {
    const uint32_t bits = bits_of(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
    return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

[[maybe_unused]] inline float bfloat_to_float(uint16_t value) { return float_of(static_cast<uint32_t>(value) << 16); }

}  // namespace
}  // namespace quire
