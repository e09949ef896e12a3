// What the EXL2 kernels' files know of each other on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../quire_cuda.h"

namespace quire {

int32_t prepare_exl2();

// Shared memory a block of the product may take: two such blocks fit a data-centre GPU's processor, one any other's since Ampere.
constexpr size_t kExl2SharedBytes = 96 * 1024;
// Before Ampere.
constexpr size_t kExl2SharedBytesLeast = 64 * 1024;

// Rows of activations a launch of the product's kernel of this name takes.
int32_t exl2_matmul_8(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t exl2_matmul_16(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t exl2_matmul_32(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t prepare_exl2_matmul_8();
int32_t prepare_exl2_matmul_16();
int32_t prepare_exl2_matmul_32();
int32_t prepare_exl2_matmul_many();

}  // namespace quire
