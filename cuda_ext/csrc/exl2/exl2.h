// What the EXL2 kernels' files know of each other on the host.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../quire_cuda.h"

namespace quire {

int32_t prepare_exl2();

// Shared memory that a product's block asks for as it is launched, at most, where a block may have `most`: 96 KB on every card
// since Ampere. Two such blocks fit a processor of Hopper, one fits any other's. What a kernel has besides is far less than the rest.
constexpr size_t exl2_shared_bytes(size_t most) {
    constexpr size_t kWanted = 96 * 1024, kBesides = 1024;
    return most < kWanted + kBesides ? most - kBesides : kWanted;
}

// Rows of activations a launch of the product's kernel of this name takes.
int32_t exl2_matmul_8(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t exl2_matmul_16(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t exl2_matmul_32(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream);
int32_t prepare_exl2_matmul_8();
int32_t prepare_exl2_matmul_16();
int32_t prepare_exl2_matmul_32();
int32_t prepare_exl2_matmul_many();

}  // namespace quire
