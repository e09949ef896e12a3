// The exported EXL2 functions.
#include "exl2.h"

#include "../common/launch.cuh"
#include "dequantize.h"

namespace quire {

int32_t prepare_exl2() {
    return first_error(prepare_exl2_decode(), prepare_exl2_gather(), prepare_exl2_matmul_8(), prepare_exl2_matmul_16(),
                       prepare_exl2_matmul_32(), prepare_exl2_matmul_many());
}

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_exl2_matmul(void *stream, const quire_cuda_exl2_work *work,
                                              const quire_cuda_exl2_step *step) {
    const int64_t element = 2;
    const int64_t in_features = work->matrices[0].in_features;
    for (int32_t first = 0; first < step->rows; first += QUIRE_CUDA_EXL2_ROWS) {
        quire_cuda_exl2_step part = *step;
        part.rows = step->rows - first < QUIRE_CUDA_EXL2_ROWS ? step->rows - first : QUIRE_CUDA_EXL2_ROWS;
        part.x = static_cast<const char *>(step->x) + element * first * in_features;
        if (step->row_factors != nullptr) part.row_factors = step->row_factors + first;
        for (int32_t each = 0; each < work->count; ++each) {
            part.out[each] = static_cast<char *>(step->out[each]) + element * first * work->matrices[each].out_features;
        }
        const auto multiply = part.rows <= 8    ? quire::exl2_matmul_8
                              : part.rows <= 16 ? quire::exl2_matmul_16
                                                : quire::exl2_matmul_32;
        if (const int32_t status = multiply(*work, part, stream); status != 0) return status;
    }
    return QUIRE_CUDA_OK;
}

}
