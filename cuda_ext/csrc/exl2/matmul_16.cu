// The product for up to 16 rows.
#include "matmul.cuh"

namespace quire {

int32_t exl2_matmul_16(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream) {
    return exl2::launch_matmul<2>(work, step, stream);
}

int32_t prepare_exl2_matmul_16() { return exl2::prepare_matmul<2>(); }

}  // namespace quire
