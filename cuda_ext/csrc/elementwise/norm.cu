// Root-mean-square normalisation. One block per row reads it twice, the second time from the cache.
#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "../common/warp.cuh"
#include "elementwise.h"

namespace quire {
namespace {

constexpr int kThreads = 256;

template <typename T, typename Weight>
__global__ void __launch_bounds__(kThreads)
    rms_norm(const T *x, const Weight *weight, float eps, int64_t width, const int32_t *order, T *out) {
    const T *source = x + blockIdx.x * width;
    T *target = out + blockIdx.x * width;
    float sum = 0.0f;
    for (int64_t i = threadIdx.x; i < width; i += kThreads) {
        const float value = to_float(source[i]);
        sum += value * value;
    }
    const float scale = rsqrtf(block_sum<kThreads>(sum) / static_cast<float>(width) + eps);
    for (int64_t i = threadIdx.x; i < width; i += kThreads) {
        const int64_t feature = order == nullptr ? i : order[i];
        target[i] = from_float<T>(to_float(source[feature]) * scale * to_float(weight[feature]));
    }
}

template <typename T>
int32_t prepare_for() {
    return first_error(prepare(rms_norm<T, __half>), prepare(rms_norm<T, __nv_bfloat16>), prepare(rms_norm<T, float>));
}

}  // namespace

int32_t prepare_norm() { return first_error(prepare_for<__half>(), prepare_for<__nv_bfloat16>()); }

}  // namespace quire

extern "C" {

int32_t quire_cuda_rms_norm(void *stream, const void *x, const void *weight, int32_t weight_dtype, float eps,
                            int64_t rows, int64_t width, const int32_t *order, void *out, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        return quire::with_float_type(weight_dtype, [&](auto stored) {
            using T = typename decltype(activation)::type;
            using Weight = typename decltype(stored)::type;
            return quire::launch(quire::rms_norm<T, Weight>, dim3(static_cast<unsigned>(rows)), dim3(quire::kThreads),
                                 0, stream, static_cast<const T *>(x), static_cast<const Weight *>(weight), eps, width,
                                 order, static_cast<T *>(out));
        });
    });
}

}
