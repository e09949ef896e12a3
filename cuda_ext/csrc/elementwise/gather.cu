// Ops that pick rows: the token embedding, and the rows whose logits are wanted. One block per row.
#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "elementwise.h"

namespace quire {
namespace {

constexpr int kThreads = 256;

template <typename From, typename To>
__global__ void __launch_bounds__(kThreads)
    gather_rows(const int32_t *rows, const From *table, int64_t width, To *out) {
    const From *source = table + rows[blockIdx.x] * width;
    To *target = out + blockIdx.x * width;
    for (int64_t i = threadIdx.x; i < width; i += kThreads) target[i] = from_float<To>(to_float(source[i]));
}

template <typename From, typename To>
int32_t gather(void *stream, const int32_t *rows, const void *table, int64_t count, int64_t width, void *out) {
    return launch(gather_rows<From, To>, dim3(static_cast<unsigned>(count)), dim3(kThreads), 0, stream, rows,
                  static_cast<const From *>(table), width, static_cast<To *>(out));
}

template <typename To>
int32_t prepare_to() {
    return first_error(prepare(gather_rows<__half, To>), prepare(gather_rows<__nv_bfloat16, To>),
                       prepare(gather_rows<float, To>));
}

}  // namespace

int32_t prepare_gather() { return first_error(prepare_to<__half>(), prepare_to<__nv_bfloat16>()); }

}  // namespace quire

extern "C" {

int32_t quire_cuda_embed(void *stream, const int32_t *ids, const void *table, int32_t table_dtype, int64_t rows,
                         int64_t width, void *out, int32_t dtype) {
    return quire::with_float_type(table_dtype, [&](auto from) {
        return quire::with_activation_type(dtype, [&](auto to) {
            return quire::gather<typename decltype(from)::type, typename decltype(to)::type>(stream, ids, table, rows,
                                                                                             width, out);
        });
    });
}

int32_t quire_cuda_take_rows(void *stream, const void *x, const int32_t *rows, int64_t count, int64_t width, void *out,
                             int32_t dtype) {
    return quire_cuda_embed(stream, rows, x, dtype, count, width, out, dtype);
}

}
