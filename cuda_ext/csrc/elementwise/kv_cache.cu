// Writing keys and values into the paged cache. One block per token, all of its heads.
#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "cache_vector.cuh"
#include "elementwise.h"

namespace quire {
namespace {

constexpr int kThreads = 256;

template <typename T, typename Cache>
__global__ void __launch_bounds__(kThreads)
    store_kv(const T *k, const T *v, const int32_t *slots, int kv_heads, int block_size, int head_dim, Cache *k_cache,
             Cache *v_cache) {
    const int slot = slots[blockIdx.x];
    if (slot < 0) return;
    const CacheShape shape = {kv_heads, block_size, head_dim};
    const int64_t source = static_cast<int64_t>(blockIdx.x) * kv_heads * head_dim;
    for (int i = threadIdx.x; i < kv_heads * head_dim; i += kThreads) {
        const int64_t target = shape.vector(slot, i / head_dim) + i % head_dim;
        k_cache[target] = from_float<Cache>(to_float(k[source + i]));
        v_cache[target] = from_float<Cache>(to_float(v[source + i]));
    }
}

template <typename T>
int32_t prepare_from() {
    return first_error(prepare(store_kv<T, __half>), prepare(store_kv<T, __nv_bfloat16>), prepare(store_kv<T, float>));
}

}  // namespace

int32_t prepare_kv_cache() { return first_error(prepare_from<__half>(), prepare_from<__nv_bfloat16>()); }

}  // namespace quire

extern "C" {

int32_t quire_cuda_store_kv(void *stream, const void *k, const void *v, const int32_t *slots, int64_t rows,
                            int64_t kv_heads, int64_t block_size, int64_t head_dim, void *k_cache, void *v_cache,
                            int32_t cache_dtype, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        return quire::with_float_type(cache_dtype, [&](auto cache) {
            using T = typename decltype(activation)::type;
            using Cache = typename decltype(cache)::type;
            return quire::launch(quire::store_kv<T, Cache>, dim3(static_cast<unsigned>(rows)), dim3(quire::kThreads), 0,
                                 stream, static_cast<const T *>(k), static_cast<const T *>(v), slots, kv_heads,
                                 block_size, head_dim, static_cast<Cache *>(k_cache), static_cast<Cache *>(v_cache));
        });
    });
}

}
