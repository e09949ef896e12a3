// Element types: conversion to and from float, and the step from a type's number in the C interface to the type.
#pragma once

#include "platform.cuh"
#include "../quire_cuda.h"

namespace quire {

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(__half value) { return __half2float(value); }
__device__ __forceinline__ float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }

// Rounds to nearest even.
template <typename T>
__device__ __forceinline__ T from_float(float value);
template <>
__device__ __forceinline__ float from_float<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ __half from_float<__half>(float value) {
    return __float2half_rn(value);
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
    return __float2bfloat16_rn(value);
}

// Two numbers in one register, the first in its low half.
__device__ __forceinline__ uint32_t pack(__half low, __half high) {
    return static_cast<uint32_t>(__half_as_ushort(high)) << 16 | __half_as_ushort(low);
}
__device__ __forceinline__ uint32_t pack(__nv_bfloat16 low, __nv_bfloat16 high) {
    return static_cast<uint32_t>(__bfloat16_as_ushort(high)) << 16 | __bfloat16_as_ushort(low);
}

// 2^x within 2 units in the last place, in one instruction; 0 where the result is below the normal numbers.
__device__ __forceinline__ float fast_exp2(float x) {
#ifdef QUIRE_EMULATE
    const float power = std::exp2(x);
    return power < 0x1p-126f ? 0.0f : power;
#else
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#endif
}

template <typename T>
struct TypeTag {
    using type = T;
};

// Calls `use` with the TypeTag of an activation's type.
template <typename Use>
int32_t with_activation_type(int32_t dtype, Use use) {
    if (dtype == QUIRE_CUDA_F16) return use(TypeTag<__half>());
    if (dtype == QUIRE_CUDA_BF16) return use(TypeTag<__nv_bfloat16>());
    return QUIRE_CUDA_UNSUPPORTED;
}

// Calls `use` with the TypeTag of a weight's, table's or cache's type.
template <typename Use>
int32_t with_float_type(int32_t dtype, Use use) {
    if (dtype == QUIRE_CUDA_F32) return use(TypeTag<float>());
    return with_activation_type(dtype, use);
}

}  // namespace quire
