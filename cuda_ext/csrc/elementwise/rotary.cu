// Rotary position embedding, halves convention: feature i pairs with i + head_dim / 2. One block per token, all of its
// heads.
#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "elementwise.h"

namespace quire {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ void rotate_heads(T *heads, int count, int half, const float *cos, const float *sin) {
    for (int pair = threadIdx.x; pair < count * half; pair += kThreads) {
        const int i = pair % half;
        T *first = heads + static_cast<int64_t>(pair / half) * 2 * half + i;
        T *second = first + half;
        const float a = to_float(*first), b = to_float(*second);
        *first = from_float<T>(a * cos[i] - b * sin[i]);
        *second = from_float<T>(b * cos[i] + a * sin[i]);
    }
}

template <typename T>
__global__ void __launch_bounds__(kThreads) rotate(T *q, T *k, const int32_t *positions, const float *cos,
                                                   const float *sin, int q_heads, int kv_heads, int half) {
    const int64_t row = blockIdx.x;
    const int64_t angles = static_cast<int64_t>(positions[row]) * half;
    rotate_heads(q + row * q_heads * 2 * half, q_heads, half, cos + angles, sin + angles);
    rotate_heads(k + row * kv_heads * 2 * half, kv_heads, half, cos + angles, sin + angles);
}

}  // namespace

int32_t prepare_rotary() { return first_error(prepare(rotate<__half>), prepare(rotate<__nv_bfloat16>)); }

}  // namespace quire

extern "C" {

int32_t quire_cuda_rotate(void *stream, void *q, void *k, const int32_t *positions, const float *cos, const float *sin,
                          int64_t rows, int64_t q_heads, int64_t kv_heads, int64_t head_dim, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        using T = typename decltype(activation)::type;
        return quire::launch(quire::rotate<T>, dim3(static_cast<unsigned>(rows)), dim3(quire::kThreads), 0, stream,
                             static_cast<T *>(q), static_cast<T *>(k), positions, cos, sin, q_heads, kv_heads,
                             head_dim / 2);
    });
}

}
