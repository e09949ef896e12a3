// Matrix instructions of a warp group, four warps from a multiple of four on (sm_90a): D[64][64] += A[64][16] B[16][64], halves
// in, floats out. A is in registers, B in shared memory; they run beside other work, and are waited for in groups.
//
// Who holds what (PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16"): warp w of the group has rows 16 w … 16 w + 15, its
// lanes A as in `mma_f16` (mma.cuh), and of D, for j = 0 … 7, in d[4 j …] what they have of `mma_f16`'s D in columns 8 j ….
//
// B stands transposed, 64 rows n of 32 halves k (64 bytes) one after the other, of which an instruction takes 16. The 16-byte
// pieces of a row are interchanged ("64-byte swizzling") as `swizzled_place` (mma.cuh) has them.
#pragma once

#include "async_copy.cuh"
#include "mma.cuh"
#include "platform.cuh"

namespace quire {

constexpr int kWarpGroup = 128;
constexpr int kMatrixAlignment = 512;  // of B in shared memory

}  // namespace quire

#ifdef QUIRE_EMULATE
#include "emulation/wgmma.h"
#else
namespace quire {

using SharedMatrix = uint64_t;

// B whose 64 rows begin at `rows`, from column k = 16 `step` (0 or 1) on.
__device__ __forceinline__ SharedMatrix shared_matrix(const void *rows, int step) {
    constexpr uint64_t kEightRows = 8 * 64 / 16, kUnused = 1, kSwizzled64 = 2;
    const uint64_t begin = (shared_address(rows) + 32 * step) / 16;
    return begin | kUnused << 16 | kEightRows << 32 | kSwizzled64 << 62;
}

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QUIRE_WGMMA(...) asm volatile(__VA_ARGS__)
#else
#define QUIRE_WGMMA(...) __trap()
#endif

// d += A B. Until it has been waited for, a and d are not touched.
__device__ __forceinline__ void wgmma_f16(float (&d)[32], const uint32_t (&a)[4], SharedMatrix b) {
    QUIRE_WGMMA(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
          "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
          "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// Before the first instruction that reads registers which others have written.
__device__ __forceinline__ void wgmma_begin() { QUIRE_WGMMA("wgmma.fence.sync.aligned;" : : : "memory"); }

// Ends the group of the instructions since the last commit.
__device__ __forceinline__ void wgmma_commit() { QUIRE_WGMMA("wgmma.commit_group.sync.aligned;" : : : "memory"); }

// Waits until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
    QUIRE_WGMMA("wgmma.wait_group.sync.aligned %0;" : : "n"(kPending) : "memory");
}

// What this thread has written to shared memory is seen by matrix instructions after the next barrier.
__device__ __forceinline__ void publish_to_wgmma() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" : : : "memory");
#endif
}

#undef QUIRE_WGMMA

}  // namespace quire
#endif
