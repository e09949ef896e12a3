// Kernels that show what the emulation (or a device) does; tests/emulation/test_emulation.py and `make gpu` run them.
// The faulty ones, whose names begin with `bad_`, are for the emulation only.
#include "common/async_copy.cuh"
#include "common/launch.cuh"
#include "common/memory.cuh"
#include "common/mma.cuh"
#include "common/shared_memory.cuh"
#include "common/warp.cuh"
#include "common/wgmma.cuh"
#include "quire_cuda.h"

namespace quire {
namespace {

// Every lane's registers of one mma, as they are: lane l reads a[4 l …], b[2 l …], adds to d[4 l …].
__global__ void mma_registers(const uint32_t *a, const uint32_t *b, float *d) {
    const int lane = lane_index();
    uint32_t left[4], right[2];
    float sum[4];
    for (int i = 0; i < 4; ++i) left[i] = a[4 * lane + i];
    for (int i = 0; i < 2; ++i) right[i] = b[2 * lane + i];
    for (int i = 0; i < 4; ++i) sum[i] = d[4 * lane + i];
    mma_f16(sum, left, right);
    for (int i = 0; i < 4; ++i) d[4 * lane + i] = sum[i];
}

// Four matrices of 8 by 8, one after the other, through shared memory and ldmatrix; lane l writes out[4 l …].
__global__ void matrix_registers(const uint4 *rows, int transposed, uint32_t *out) {
    QUIRE_SHARED(uint4, tile, kWarp);
    const int lane = lane_index();
    tile[lane] = rows[lane];
    warp_sync();
    uint32_t r[4];
    if (transposed) {
        load_matrices_transposed<4>(r, &tile[lane]);
    } else {
        load_matrices<4>(r, &tile[lane]);
    }
    for (int i = 0; i < 4; ++i) out[4 * lane + i] = r[i];
}

// A warp group's registers of one wgmma, as they are: thread i has a[4 i …], adds to d[32 i …]. b has 64 rows of 32 halves, of
// which the instruction takes those from 16 `step` on.
__global__ void group_registers(const uint32_t *a, const uint4 *b, int step, float *d) {
    QUIRE_DYNAMIC_SHARED(uint4, memory);
    const auto address = reinterpret_cast<uintptr_t>(static_cast<uint4 *>(memory));
    uint4 *const rows = memory + (kMatrixAlignment - address % kMatrixAlignment) % kMatrixAlignment / sizeof(uint4);
    for (int quad = threadIdx.x; quad < 64 * 4; quad += kWarpGroup) rows[swizzled_place(quad / 4, quad % 4)] = b[quad];
    uint32_t left[4];
    float sum[32];
    for (int i = 0; i < 4; ++i) left[i] = a[4 * threadIdx.x + i];
    for (int i = 0; i < 32; ++i) sum[i] = d[32 * threadIdx.x + i];
    publish_to_wgmma();
    block_sync();
    wgmma_begin();
    wgmma_f16(sum, left, shared_matrix(rows, step));
    wgmma_commit();
    wgmma_wait<0>();
    for (int i = 0; i < 32; ++i) d[32 * threadIdx.x + i] = sum[i];
}

// Sums of neighbours 0 … 3 steps on, by each of the shuffles; and the votes.
__global__ void exchanges(const float *x, float *out, unsigned *votes) {
    const int lane = lane_index();
    const float value = x[threadIdx.x];
    out[threadIdx.x] = value + shuffle(value, 3) + shuffle_xor(value, 5) * 2 + shuffle_down(value, 2) * 4 +
                       shuffle_up(value, 7) * 8;
    const unsigned positive = ballot(value > 0);
    const bool huge = any(value > 100), bounded = all(value > -100);
    if (lane == 0) {
        votes[3 * warp_index()] = positive;
        votes[3 * warp_index() + 1] = huge;
        votes[3 * warp_index() + 2] = bounded;
    }
}

__global__ void block_sums(const float *x, float *out) {
    const float total = block_sum<128>(x[threadIdx.x]);
    out[threadIdx.x] = total + block_sum<128>(1.0f);
}

// Three tiles through a ring of two by cp.async; `pending` too large is a missing wait.
template <int kPending>
__global__ void pipeline(const uint4 *source, uint4 *target) {
    QUIRE_DYNAMIC_SHARED(uint4, ring);
    constexpr int kTiles = 3;
    copy_async_16(&ring[threadIdx.x], source + threadIdx.x);
    copy_async_commit();
    for (int tile = 0; tile < kTiles; ++tile) {
        const int next = tile + 1;
        if (next < kTiles) {
            copy_async_16(&ring[next % 2 * blockDim.x + threadIdx.x], source + next * blockDim.x + threadIdx.x);
        }
        copy_async_commit();
        copy_async_wait<kPending>();
        block_sync();
        target[tile * blockDim.x + threadIdx.x] = ring[tile % 2 * blockDim.x + (threadIdx.x + 1) % blockDim.x];
        block_sync();
    }
}

// Blocks take turns: each waits for the one before it, and appends its number.
__global__ void turns(int *turn, int *order) {
    if (threadIdx.x == 0) {
        while (load_acquire(turn) != static_cast<int>(blockIdx.x)) spin_pause();
        order[blockIdx.x] = load_acquire(turn);
        memory_fence();
        store_release(turn, static_cast<int>(blockIdx.x) + 1);
    }
}

#ifdef QUIRE_EMULATE
__global__ void bad_barrier() {
    if (threadIdx.x < 32) block_sync();
}

__global__ void bad_divergence(float *out) {
    if (lane_index() < 16) out[0] = shuffle(1.0f, 0);
    else out[1] = shuffle_xor(1.0f, 1);
}

__global__ void bad_index(float *out) {
    QUIRE_SHARED(float, values, 32);
    out[0] = values[threadIdx.x + 1];
}

__global__ void bad_pointer() {
    QUIRE_SHARED(float, values, 32);
    float *pointer = values;
    pointer[33] = 1.0f;
}

__global__ void bad_race(int *out) {
    QUIRE_SHARED(int, last, 1);
    last[0] = threadIdx.x;
    block_sync();
    out[0] = last[0];
}

__global__ void bad_group(bool wait) {
    QUIRE_DYNAMIC_SHARED(uint4, rows);
    uint32_t left[4] = {};
    float sum[32] = {};
    wgmma_f16(sum, left, shared_matrix(rows, 0));
    wgmma_commit();
    if (wait) {
        left[1] = 7;
        wgmma_wait<0>();
    } else if (sum[threadIdx.x % 32] == 0.0f) {
        wgmma_f16(sum, left, shared_matrix(rows + 1, 0));
    }
}

__global__ void bad_address(int *values, bool write) {
    if (write) values[64] = 1;
    else values[0] = values[64];
}

__global__ void bad_wait(int *flag) {
    while (load_acquire(flag) == 0) spin_pause();
}
#endif

}  // namespace
}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t probe_prepare(void) {
    using namespace quire;
    return first_error(prepare(mma_registers), prepare(matrix_registers), prepare(exchanges), prepare(block_sums),
                       prepare(pipeline<1>), prepare(pipeline<2>, 64 * 1024), prepare(turns), prepare(group_registers));
}

QUIRE_CUDA_API int32_t probe_mma(void *stream, const uint32_t *a, const uint32_t *b, float *d) {
    return quire::launch(quire::mma_registers, dim3(1), dim3(32), 0, stream, a, b, d);
}

QUIRE_CUDA_API int32_t probe_matrices(void *stream, const void *rows, int32_t transposed, uint32_t *out) {
    return quire::launch(quire::matrix_registers, dim3(1), dim3(32), 0, stream, static_cast<const uint4 *>(rows),
                         transposed, out);
}

QUIRE_CUDA_API int32_t probe_group(void *stream, const uint32_t *a, const void *b, int32_t step, float *d) {
    return quire::launch(quire::group_registers, dim3(1), dim3(quire::kWarpGroup), 64 * 64 + quire::kMatrixAlignment, stream,
                         a, static_cast<const uint4 *>(b), step, d);
}

QUIRE_CUDA_API int32_t probe_exchanges(void *stream, const float *x, float *out, unsigned *votes) {
    return quire::launch(quire::exchanges, dim3(1), dim3(64), 0, stream, x, out, votes);
}

QUIRE_CUDA_API int32_t probe_block_sums(void *stream, const float *x, float *out) {
    return quire::launch(quire::block_sums, dim3(1), dim3(128), 0, stream, x, out);
}

QUIRE_CUDA_API int32_t probe_pipeline(void *stream, const void *source, void *target, int32_t pending) {
    const auto kernel = pending == 1 ? quire::pipeline<1> : quire::pipeline<2>;
    return quire::launch(kernel, dim3(1), dim3(64), 2 * 64 * 16, stream, static_cast<const uint4 *>(source),
                         static_cast<uint4 *>(target));
}

QUIRE_CUDA_API int32_t probe_turns(void *stream, int32_t blocks, int *turn, int *order) {
    return quire::launch(quire::turns, dim3(blocks), dim3(32), 0, stream, turn, order);
}

#ifdef QUIRE_EMULATE
QUIRE_CUDA_API int32_t probe_bad(int32_t which, void *out) {
    using namespace quire;
    first_error(prepare(bad_barrier), prepare(bad_divergence), prepare(bad_index), prepare(bad_pointer),
                prepare(bad_race), prepare(bad_wait), prepare(bad_group), prepare(bad_address));
    switch (which) {
        case 0: return launch(bad_barrier, dim3(1), dim3(64), 0, nullptr);
        case 1: return launch(bad_divergence, dim3(1), dim3(32), 0, nullptr, static_cast<float *>(out));
        case 2: return launch(bad_index, dim3(1), dim3(32), 0, nullptr, static_cast<float *>(out));
        case 3: return launch(bad_pointer, dim3(1), dim3(32), 0, nullptr);
        case 4: return launch(bad_race, dim3(1), dim3(64), 0, nullptr, static_cast<int *>(out));
        case 5: return launch(bad_wait, dim3(2), dim3(32), 0, nullptr, static_cast<int *>(out));
        case 6: return launch(bad_barrier, dim3(1), dim3(48), 0, nullptr);
        case 7: return launch(bad_barrier, dim3(1), dim3(64), 64 * 1024, nullptr);
        case 8: return launch(bad_group, dim3(1), dim3(128), 4096, nullptr, true);
        case 9: return launch(bad_group, dim3(1), dim3(128), 8192, nullptr, false);
        case 10: return launch(bad_address, dim3(1), dim3(32), 0, nullptr, static_cast<int *>(out), false);
        case 11: return launch(bad_address, dim3(1), dim3(32), 0, nullptr, static_cast<int *>(out), true);
        default: return QUIRE_CUDA_UNSUPPORTED;
    }
}
#endif

}
