// Matrix instructions of one warp: D[16][8] = A[16][16] B[16][8] + C, halves or bfloat16 in, floats out, and the loads that go with
// them.
//
// Who holds what (PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type"), for lane l with group g = l /
// 4 and t = l % 4; each register holds two neighbours in k (A, B) or in n (C, D), the lower one in the low half:
//
//   A: a[0] = (g, 2t)  a[1] = (g + 8, 2t)  a[2] = (g, 2t + 8)  a[3] = (g + 8, 2t + 8)      (row m, column k)
//   B: b[0] = (2t, g)  b[1] = (2t + 8, g)                                                   (row k, column n)
//   D: d[0], d[1] = (g, 2t), (g, 2t + 1)   d[2], d[3] = (g + 8, 2t), (g + 8, 2t + 1)        (row m, column n)
#pragma once

#include "async_copy.cuh"
#include "platform.cuh"

namespace quire {

// Rows of 64 bytes one after the other in shared memory, with the 16-byte pieces of each interchanged, so that `load_matrices`
// meets no bank twice: where piece `piece` of row `row` stands, in pieces.
__device__ __forceinline__ int swizzled_place(int row, int piece) { return 4 * row + (piece ^ (row / 2 % 4)); }

}  // namespace quire

#ifdef QUIRE_EMULATE
#include "emulation/mma.h"
#else
namespace quire {

// d += A B.
__device__ __forceinline__ void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    // Turing knows only k = 8; its fragments are the two halves of these.
    for (int half = 0; half < 2; ++half) {
        asm volatile(
            "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[2 * half]), "r"(a[2 * half + 1]), "r"(b[half]));
    }
#endif
}

// The same with bfloat16 for halves. Cards before sm_80 have no such instruction: nothing may call it there.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// kCount (1, 2 or 4) matrices of 8 rows of 8 halves from shared memory. Lanes 8i … 8i + 7 give the addresses of the
// rows of matrix i, 16-byte aligned; lane l gets elements (l / 4, 2 (l % 4)) and the one to its right of each.
template <int kCount>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[kCount], const void *row) {
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);
    const unsigned address = shared_address(row);
    if constexpr (kCount == 1) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
    } else if constexpr (kCount == 2) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
    }
}

// The same, each matrix transposed: lane l gets elements (2 (l % 4), l / 4) and the one below of each.
template <int kCount>
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[kCount], const void *row) {
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);
    const unsigned address = shared_address(row);
    if constexpr (kCount == 1) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                     : "=r"(r[0])
                     : "r"(address)
                     : "memory");
    } else if constexpr (kCount == 2) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                     : "=r"(r[0]), "=r"(r[1])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(address)
                     : "memory");
    }
}

}  // namespace quire
#endif
