// Activations in the order of a matrix's stored rows, as halves.
//
// A bfloat16 reaches far beyond a half, so rows of them are scaled by a power of two that brings their largest element to
// 2^14 … 2^15; what is lost then lies 2^-28 below it. The product gives the power back.
#include <type_traits>

#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "../common/warp.cuh"
#include "dequantize.h"
#include "exl2.h"

namespace quire {
namespace {

constexpr int kThreads = 256;
constexpr int kWantedExponent = 14, kBias = 127, kMostExponent = 126;

// The largest of all threads' values, in every one of them.
__device__ __forceinline__ float block_max(float value) {
    QUIRE_SHARED(float, largest, kThreads / kWarp);
    value = warp_max(value);
    if (lane_index() == 0) largest[warp_index()] = value;
    block_sync();
    float all = largest[0];
    for (int warp = 1; warp < kThreads / kWarp; ++warp) all = fmaxf(all, largest[warp]);
    return all;
}

// The power of two's exponent for a row whose largest magnitude this is; 0 for a row of zeros.
__device__ __forceinline__ int scaling_exponent(float largest) {
    if (largest == 0.0f) return 0;
    const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - kBias;
    return min(kWantedExponent - exponent, kMostExponent);
}

__device__ __forceinline__ float power_of_two(int exponent) {
    return __uint_as_float(static_cast<uint32_t>(exponent + kBias) << 23);
}

// One block for each row.
template <typename T>
__global__ void gather_kernel(const T *x, const int *features, int width, __half *gathered, float *factors) {
    const T *const source = x + static_cast<int64_t>(blockIdx.x) * width;
    __half *const target = gathered + static_cast<int64_t>(blockIdx.x) * width;
    int exponent = 0;
    if constexpr (std::is_same_v<T, __nv_bfloat16>) {
        float largest = 0.0f;
        for (int i = threadIdx.x; i < width; i += kThreads) largest = fmaxf(largest, fabsf(to_float(source[i])));
        exponent = scaling_exponent(block_max(largest));
    }
    const float scale = power_of_two(exponent);
    for (int i = threadIdx.x; i < width; i += kThreads) {
        target[i] = from_float<__half>(to_float(source[features[i]]) * scale);
    }
    if (threadIdx.x == 0) factors[blockIdx.x] = power_of_two(-exponent);
}

}  // namespace

int32_t prepare_exl2_gather() {
    return first_error(prepare(gather_kernel<__half>), prepare(gather_kernel<__nv_bfloat16>));
}

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_exl2_gather(void *stream, const quire_cuda_exl2 *matrix, const void *x, int64_t rows,
                                              void *gathered, float *factors, int32_t dtype) {
    return quire::with_activation_type(dtype, [=](auto tag) {
        using T = typename decltype(tag)::type;
        return quire::launch(quire::gather_kernel<T>, dim3(static_cast<unsigned>(rows)), dim3(quire::kThreads), 0,
                             stream, static_cast<const T *>(x), matrix->features, matrix->in_features,
                             static_cast<__half *>(gathered), factors);
    });
}

}
