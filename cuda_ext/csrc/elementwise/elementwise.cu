// The gate of the MLP and the residual sum: 16 bytes per thread where the arrays allow it, one element otherwise.
#include "elementwise.h"

#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "../common/numbers.cuh"

namespace quire {
namespace {

constexpr int kThreads = 256;

struct SiluMul {
    __device__ static float apply(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }
};

struct Add {
    __device__ static float apply(float x, float residual) { return x + residual; }
};

// As many elements as one load brings.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
    T values[kCount];
};

// out = Op(a, b); a thread handles kCount neighbours. out may be a or b.
template <typename Op, typename T, int kCount>
__global__ void __launch_bounds__(kThreads) combine(const T *a, const T *b, int64_t packs, T *out) {
    const int64_t index = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x);
    if (index >= packs) return;
    using Elements = Pack<T, kCount>;
    const Elements left = load<Elements>(a + index * kCount), right = load<Elements>(b + index * kCount);
    Elements result;
    for (int i = 0; i < kCount; ++i) {
        result.values[i] = from_float<T>(Op::apply(to_float(left.values[i]), to_float(right.values[i])));
    }
    store(out + index * kCount, result);
}

// out = Op(a, b), each row of the output in this order of features; the second index of the grid is the row.
template <typename Op, typename T>
__global__ void __launch_bounds__(kThreads)
    combine_ordered(const T *a, const T *b, const int32_t *order, int64_t width, T *out) {
    const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= width) return;
    const int64_t row = static_cast<int64_t>(blockIdx.y) * width, feature = row + order[index];
    out[row + index] = from_float<T>(Op::apply(to_float(a[feature]), to_float(b[feature])));
}

bool is_aligned(const void *pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

template <typename Op, typename T, int kCount>
int32_t launch_combine(void *stream, const T *a, const T *b, int64_t count, T *out) {
    const int64_t packs = count / kCount;
    const auto blocks = static_cast<unsigned>(blocks_for(packs, kThreads));
    return launch(combine<Op, T, kCount>, dim3(blocks), dim3(kThreads), 0, stream, a, b, packs, out);
}

template <typename Op, typename T>
int32_t combine_all(void *stream, const void *a, const void *b, int64_t count, void *out) {
    constexpr int kWide = 16 / sizeof(T);
    const auto *left = static_cast<const T *>(a);
    const auto *right = static_cast<const T *>(b);
    auto *target = static_cast<T *>(out);
    const int64_t wide = is_aligned(a) && is_aligned(b) && is_aligned(out) ? count / kWide * kWide : 0;
    return first_error(launch_combine<Op, T, kWide>(stream, left, right, wide, target),
                       launch_combine<Op, T, 1>(stream, left + wide, right + wide, count - wide, target + wide));
}

template <typename Op, typename T>
int32_t prepare_combine() {
    return first_error(prepare(combine<Op, T, 16 / sizeof(T)>), prepare(combine<Op, T, 1>));
}

}  // namespace

int32_t prepare_elementwise() {
    return first_error(prepare_combine<SiluMul, __half>(), prepare_combine<SiluMul, __nv_bfloat16>(),
                       prepare_combine<Add, __half>(), prepare_combine<Add, __nv_bfloat16>(),
                       prepare(combine_ordered<SiluMul, __half>), prepare(combine_ordered<SiluMul, __nv_bfloat16>));
}

}  // namespace quire

extern "C" {

int32_t quire_cuda_silu_mul(void *stream, const void *gate, const void *up, int64_t count, void *out, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        return quire::combine_all<quire::SiluMul, typename decltype(activation)::type>(stream, gate, up, count, out);
    });
}

int32_t quire_cuda_silu_mul_ordered(void *stream, const void *gate, const void *up, const int32_t *order, int64_t rows,
                                    int64_t width, void *out, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        using T = typename decltype(activation)::type;
        const int64_t most_rows = 65535;  // in the second index of a grid
        for (int64_t first = 0; first < rows; first += most_rows) {
            const int64_t count = rows - first < most_rows ? rows - first : most_rows, start = first * width;
            const dim3 grid(static_cast<unsigned>(quire::blocks_for(width, quire::kThreads)),
                            static_cast<unsigned>(count));
            const int32_t status =
                quire::launch(quire::combine_ordered<quire::SiluMul, T>, grid, dim3(quire::kThreads), 0, stream,
                              static_cast<const T *>(gate) + start, static_cast<const T *>(up) + start, order, width,
                              static_cast<T *>(out) + start);
            if (status != 0) return status;
        }
        return static_cast<int32_t>(QUIRE_CUDA_OK);
    });
}

int32_t quire_cuda_add(void *stream, const void *x, int64_t count, void *residual, int32_t dtype) {
    return quire::with_activation_type(dtype, [&](auto activation) {
        return quire::combine_all<quire::Add, typename decltype(activation)::type>(stream, x, residual, count,
                                                                                   residual);
    });
}

}
