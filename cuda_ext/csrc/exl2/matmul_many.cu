// The product of many rows of activations, at a time up to 128, with an EXL2 matrix, on the matrix instructions of warp groups
// (sm_90a only).
//
// A block takes 256 columns, each of its two warp groups 128, and walks down the stored rows one tile of 32 after the other. What a
// tile needs comes in through a ring in shared memory that all threads fill: both tiles' planes and scales, and the block's rows of
// activations. Warp w of a group decodes 32 columns of its tile, in fragments as they are in tile.cuh, while the matrix
// instructions of the tile before are under way. So every weight is decoded once for 128 rows.
//
// Where columns and rows make fewer blocks than there are processors, the stored rows are cut into `splits` runs. Each leaves its
// sum in the workspace, and the last to come adds them up in order.
#include "../common/launch.cuh"
#include "../common/shared_memory.cuh"
#include "../common/warp.cuh"
#include "../common/wgmma.cuh"
#include "../device.h"
#include "exl2.h"
#include "tile.cuh"

namespace quire {
namespace exl2 {
namespace {

constexpr int kGroups = 2;  // of warps in a block, one for each of its column blocks
constexpr int kThreads = kGroups * kWarpGroup;
constexpr int kStages = 4;
constexpr int kPartRows = 64;  // of activations in one matrix instruction
constexpr int kOwnBlocks = 2;  // of 16 columns that a warp decodes
constexpr int kRowQuads = 4;   // uint4 in a tile's part of a row of activations
constexpr int kRecordSpace = 8;

struct Call {
    quire_cuda_exl2 matrix;
    quire_cuda_exl2_many step;
};

// What a stage of the ring holds, in quads from its beginning.
template <int kParts>
struct Stage {
    static constexpr int kActivations = 0;
    static constexpr int kRecords = kParts * kPartRows * kRowQuads;
    static constexpr int kPlanes = kRecords + kGroups * kRecordSpace;
    static constexpr int kMultiple = kMatrixAlignment / 16;

    static __host__ __device__ int quads(int widest) {
        const int used = kPlanes + kGroups * widest * kPlaneQuads;
        return (used + kMultiple - 1) / kMultiple * kMultiple;
    }
};

// A dynamic array's first quad that is aligned as matrices must be; it has room for that.
__device__ __forceinline__ uint4 *aligned(uint4 *memory) {
    const auto address = reinterpret_cast<uintptr_t>(memory);
    return memory + (kMatrixAlignment - address % kMatrixAlignment) % kMatrixAlignment / sizeof(uint4);
}

// Begins to copy what a tile needs into a stage.
template <int kParts>
__device__ __forceinline__ void fetch(const Call &call, int tile_index, uint4 *stage) {
    const quire_cuda_exl2 &matrix = call.matrix;
    const Tile tile = read_tile(matrix.tiles, tile_index);
    const int column_blocks = (matrix.out_features + kTileColumns - 1) / kTileColumns;
    const int first_row = blockIdx.y * kParts * kPartRows;
    for (int quad = threadIdx.x; quad < kParts * kPartRows * kRowQuads; quad += kThreads) {
        const int own = quad / kRowQuads, piece = quad % kRowQuads;
        const bool wanted = first_row + own < call.step.rows;
        const __half *source = static_cast<const __half *>(call.step.x) + static_cast<int64_t>(wanted ? first_row + own : 0) * matrix.in_features +
                               tile_index * kTileRows + 8 * piece;
        copy_async_16(stage + Stage<kParts>::kActivations + swizzled_place(own, piece), source, wanted);
    }
    for (int group = 0; group < kGroups; ++group) {
        const int64_t column_block = kGroups * blockIdx.x + group;
        if (column_block >= column_blocks) break;
        const uint4 *planes = static_cast<const uint4 *>(matrix.planes) +
                              (column_block * matrix.plane_count + tile.plane) * kPlaneQuads;
        uint4 *const target = stage + Stage<kParts>::kPlanes + group * call.step.widest * kPlaneQuads;
        for (int quad = threadIdx.x; quad < tile.width * kPlaneQuads; quad += kThreads) {
            copy_async_16(target + quad, planes + quad);
        }
        const int quad = threadIdx.x;
        if (quad < kRecordQuads) {
            const uint4 *record =
                static_cast<const uint4 *>(matrix.scales) + (column_block * matrix.groups + tile.group) * kRecordQuads;
            copy_async_16(stage + Stage<kParts>::kRecords + group * kRecordSpace + quad, record + quad);
        }
    }
}

using Fragments = uint32_t[kOwnBlocks][kSteps][4];

// The warp's fragments of a tile.
template <int kParts>
__device__ __forceinline__ void decode(const Call &call, const Tile &tile, const uint4 *stage, Fragments &fragments) {
    const int group = threadIdx.x / kWarpGroup, quarter = warp_index() % kTileQuarters, lane = lane_index();
    const uint4 *planes = stage + Stage<kParts>::kPlanes + group * call.step.widest * kPlaneQuads + lane;
    const uint4 *record = stage + Stage<kParts>::kRecords + group * kRecordSpace;
    uint32_t scales[kOwnBlocks];
    read_quarter_scales(record, lane, quarter, scales);
    with_width(tile.width, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        uint32_t words[kWidth];
        read_quarter_words<kWidth>(planes, quarter, words);
#pragma unroll
        for (int m = 0; m < kOwnBlocks; ++m) {
#pragma unroll
            for (int k = 0; k < kSteps; ++k) weight_fragment<kWidth>(words, scales[m], m, k, fragments[m][k]);
        }
    });
}

template <int kParts>
using Sums = float[kOwnBlocks][kParts][kPartRows / 2];

// Begins to add a tile's product.
template <int kParts>
__device__ __forceinline__ void multiply(const uint4 *stage, const Fragments &fragments, Sums<kParts> &sums) {
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
            const SharedMatrix b =
                shared_matrix(stage + Stage<kParts>::kActivations + part * kPartRows * kRowQuads, k);
#pragma unroll
            for (int m = 0; m < kOwnBlocks; ++m) wgmma_f16(sums[m][part], fragments[m][k], b);
        }
    }
    wgmma_commit();
}

// Row of activations and column of the matrix of element i of the warp's sums [m][part].
__device__ __forceinline__ int row_of(int part, int i) { return part * kPartRows + 8 * (i / 4) + 2 * (lane_index() % 4) + i % 2; }
__device__ __forceinline__ int column_of(int m, int i) {
    return 16 * (kOwnBlocks * warp_index() + m) + 8 * (i % 4 / 2) + lane_index() / 4;
}

__device__ __forceinline__ void finish(const Call &call, int row, int column, float value) {
    if (row >= call.step.rows || column >= call.matrix.out_features) return;
    if (call.matrix.bias != nullptr) value += call.matrix.bias[column];
    static_cast<__half *>(call.step.out)[static_cast<int64_t>(row) * call.matrix.out_features + column] =
        from_float<__half>(value);
}

// Notes that this block's sum is in the workspace; true in the block that brought the last one.
__device__ __forceinline__ bool is_last_split(const Call &call, int place) {
    QUIRE_SHARED(int, arrived, 1);
    memory_fence();
    block_sync();
    if (threadIdx.x == 0) {
        arrived[0] = atomic_add(call.step.arrivals + place, 1) + 1;
        if (arrived[0] == call.step.splits) call.step.arrivals[place] = 0;  // as the next launch wants it
        memory_fence();
    }
    block_sync();
    return arrived[0] == call.step.splits;
}

// Up to 64 kParts rows.
template <int kParts>
__global__ __launch_bounds__(kThreads, 1) void matmul_many_kernel(const __grid_constant__ Call call) {
    constexpr int kRows = kParts * kPartRows, kColumns = kGroups * kTileColumns;
    QUIRE_DYNAMIC_SHARED(uint4, memory);
    uint4 *const ring = aligned(memory);
    const int stage_quads = Stage<kParts>::quads(call.step.widest);
    const int tiles = call.matrix.in_features / kTileRows;
    const int first = tiles * blockIdx.z / call.step.splits, end = tiles * (blockIdx.z + 1) / call.step.splits;
    for (int ahead = 0; ahead < kStages - 2; ++ahead) {
        if (first + ahead < end) fetch<kParts>(call, first + ahead, ring + ahead * stage_quads);
        copy_async_commit();
    }
    Sums<kParts> sums = {};
    Fragments fragments[2];
    // A stage is filled again two tiles after its own: by then every warp has waited for the matrix instructions that read it.
    const auto take = [&](int index, Fragments &own) {
        const int ahead = index + kStages - 2;
        copy_async_wait<kStages - 3>();
        publish_to_wgmma();
        block_sync();
        if (ahead < end) fetch<kParts>(call, ahead, ring + (ahead - first) % kStages * stage_quads);
        copy_async_commit();
        const uint4 *stage = ring + (index - first) % kStages * stage_quads;
        decode<kParts>(call, read_tile(call.matrix.tiles, index), stage, own);
        multiply<kParts>(stage, own, sums);
        wgmma_wait<1>();
    };
    for (int index = first; index < end; index += 2) {
        take(index, fragments[0]);
        if (index + 1 < end) take(index + 1, fragments[1]);
    }
    wgmma_wait<0>();

    const int place = blockIdx.y * gridDim.x + blockIdx.x;
    const int64_t first_row = static_cast<int64_t>(blockIdx.y) * kRows, first_column = static_cast<int64_t>(blockIdx.x) * kColumns;
    float *const partial = call.step.partials + (static_cast<int64_t>(place) * call.step.splits + blockIdx.z) * kRows * kColumns;
#pragma unroll
    for (int m = 0; m < kOwnBlocks; ++m) {
#pragma unroll
        for (int part = 0; part < kParts; ++part) {
#pragma unroll
            for (int i = 0; i < kPartRows / 2; ++i) {
                const int row = row_of(part, i), column = column_of(m, i);
                if (call.step.splits == 1) {
                    finish(call, first_row + row, first_column + column, sums[m][part][i]);
                } else {
                    partial[row * kColumns + column] = sums[m][part][i];
                }
            }
        }
    }
    if (call.step.splits == 1 || !is_last_split(call, place)) return;
    memory_fence();
    for (int item = threadIdx.x; item < kRows * kColumns; item += kThreads) {
        const float *share = call.step.partials + static_cast<int64_t>(place) * call.step.splits * kRows * kColumns + item;
        float sum = 0.0f;
        for (int split = 0; split < call.step.splits; ++split) sum += share[split * kRows * kColumns];
        finish(call, first_row + item / kColumns, first_column + item % kColumns, sum);
    }
}

template <int kParts>
int32_t launch_many(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_many &step, void *stream) {
    const dim3 grid(static_cast<unsigned>(blocks_for(matrix.out_features, kGroups * kTileColumns)),
                    static_cast<unsigned>(blocks_for(step.rows, kParts * kPartRows)), static_cast<unsigned>(step.splits));
    const size_t ring = sizeof(uint4) * kStages * Stage<kParts>::quads(step.widest);
    return launch(matmul_many_kernel<kParts>, grid, dim3(kThreads), ring + kMatrixAlignment, stream, Call{matrix, step});
}

}  // namespace
}  // namespace exl2

int32_t prepare_exl2_matmul_many() {
    if (capability_major() != 9) return QUIRE_CUDA_OK;  // nobody may launch it
    const size_t bytes = exl2_shared_bytes(shared_bytes_per_block());
    return first_error(prepare(exl2::matmul_many_kernel<1>, bytes), prepare(exl2::matmul_many_kernel<2>, bytes));
}

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_exl2_matmul_many(void *stream, const quire_cuda_exl2 *matrix,
                                                   const quire_cuda_exl2_many *step) {
    using namespace quire::exl2;
    return step->rows <= kPartRows ? launch_many<1>(*matrix, *step, stream) : launch_many<2>(*matrix, *step, stream);
}

}
