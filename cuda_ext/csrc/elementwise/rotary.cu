// Rotary position embedding, halves convention: feature i pairs with i + head_dim / 2; alone, and together with writing
// keys and values into the paged cache. One warp per head of a token.
#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "../common/warp.cuh"
#include "cache_vector.cuh"
#include "elementwise.h"

namespace quire {
namespace {

constexpr int kWarps = 8;

// Cosines and sines of one position.
struct Angles {
    const float *cos, *sin;
};

// Hands each feature of a rotated head to `take(feature, value)`, rounded to T.
template <typename T, typename Take>
__device__ __forceinline__ void rotate_head(const T *head, int half, Angles angles, Take take) {
    for (int i = lane_index(); i < half; i += kWarp) {
        const float a = to_float(head[i]), b = to_float(head[i + half]), cos = angles.cos[i], sin = angles.sin[i];
        take(i, from_float<T>(a * cos - b * sin));
        take(i + half, from_float<T>(b * cos + a * sin));
    }
}

// Which head of the token's a warp has, of q's, then k's, then v's.
__device__ __forceinline__ int head_index() { return blockIdx.y * kWarps + warp_index(); }

__device__ __forceinline__ Angles angles_of(const int32_t *positions, const float *cos, const float *sin, int half) {
    const int64_t offset = static_cast<int64_t>(positions[blockIdx.x]) * half;
    return {cos + offset, sin + offset};
}

// A head of this block's token.
template <typename T>
__device__ __forceinline__ T *find_head(T *heads, int count, int index, int head_dim) {
    return heads + (static_cast<int64_t>(blockIdx.x) * count + index) * head_dim;
}

template <typename T>
__device__ __forceinline__ void rotate_in_place(T *head, int half, Angles angles) {
    rotate_head(head, half, angles, [=](int feature, T value) { head[feature] = value; });
}

template <typename T>
__global__ void __launch_bounds__(kWarps *kWarp) rotate(T *q, T *k, const int32_t *positions, const float *cos,
                                                        const float *sin, int q_heads, int kv_heads, int half) {
    const int index = head_index();
    if (index >= q_heads + kv_heads) return;
    T *const head = index < q_heads ? find_head(q, q_heads, index, 2 * half)
                                    : find_head(k, kv_heads, index - q_heads, 2 * half);
    rotate_in_place(head, half, angles_of(positions, cos, sin, half));
}

template <typename T, typename Cache>
__global__ void __launch_bounds__(kWarps *kWarp)
    rotate_and_store(T *q, const T *k, const T *v, const int32_t *positions, const float *cos, const float *sin,
                     const int32_t *slots, int q_heads, CacheShape shape, Cache *k_cache, Cache *v_cache) {
    const int index = head_index(), half = shape.head_dim / 2, slot = slots[blockIdx.x];
    if (index < q_heads) {
        const Angles angles = angles_of(positions, cos, sin, half);
        return rotate_in_place(find_head(q, q_heads, index, shape.head_dim), half, angles);
    }
    const int head = (index - q_heads) % shape.kv_heads, array = (index - q_heads) / shape.kv_heads;
    if (slot < 0 || array > 1) return;
    if (array == 0) {
        Cache *const target = k_cache + shape.vector(slot, head);
        rotate_head(find_head(k, shape.kv_heads, head, shape.head_dim), half, angles_of(positions, cos, sin, half),
                    [=](int feature, T value) { target[feature] = from_float<Cache>(to_float(value)); });
        return;
    }
    const T *const source = find_head(v, shape.kv_heads, head, shape.head_dim);
    Cache *const target = v_cache + shape.vector(slot, head);
    for (int i = lane_index(); i < shape.head_dim; i += kWarp) target[i] = from_float<Cache>(to_float(source[i]));
}

dim3 warps_for(int64_t rows, int64_t heads) {
    return dim3(static_cast<unsigned>(rows), static_cast<unsigned>(blocks_for(heads, kWarps)));
}

template <typename T>
int32_t prepare_from() {
    return first_error(prepare(rotate<T>), prepare(rotate_and_store<T, __half>),
                       prepare(rotate_and_store<T, __nv_bfloat16>), prepare(rotate_and_store<T, float>));
}

}  // namespace

int32_t prepare_rotary() { return first_error(prepare_from<__half>(), prepare_from<__nv_bfloat16>()); }

}  // namespace quire

extern "C" {

int32_t quire_cuda_rotate(void *stream, void *q, void *k, const int32_t *positions, const float *cos, const float *sin,
                          int64_t rows, int64_t q_heads, int64_t kv_heads, int64_t head_dim, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        using T = typename decltype(activation)::type;
        return quire::launch(quire::rotate<T>, quire::warps_for(rows, q_heads + kv_heads),
                             dim3(quire::kWarps * quire::kWarp), 0, stream, static_cast<T *>(q), static_cast<T *>(k),
                             positions, cos, sin, q_heads, kv_heads, head_dim / 2);
    });
}

int32_t quire_cuda_rotate_and_store(void *stream, void *q, const void *k, const void *v, const int32_t *positions,
                                    const float *cos, const float *sin, const int32_t *slots, int64_t rows,
                                    int64_t q_heads, int64_t kv_heads, int64_t block_size, int64_t head_dim,
                                    void *k_cache, void *v_cache, int32_t cache_dtype, int32_t dtype) {
    const quire::CacheShape shape = {static_cast<int>(kv_heads), static_cast<int>(block_size),
                                     static_cast<int>(head_dim)};
    return quire::with_activation_type(dtype, [&](auto activation) {
        return quire::with_float_type(cache_dtype, [&](auto cache) {
            using T = typename decltype(activation)::type;
            using Cache = typename decltype(cache)::type;
            return quire::launch(quire::rotate_and_store<T, Cache>, quire::warps_for(rows, q_heads + 2 * kv_heads),
                                 dim3(quire::kWarps * quire::kWarp), 0, stream, static_cast<T *>(q),
                                 static_cast<const T *>(k), static_cast<const T *>(v), positions, cos, sin, slots,
                                 q_heads, shape, static_cast<Cache *>(k_cache), static_cast<Cache *>(v_cache));
        });
    });
}

}
