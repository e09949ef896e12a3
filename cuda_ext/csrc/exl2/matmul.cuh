// The product of a few rows of activations with an EXL2 matrix, on tensor cores.
//
// Weights are operand A, so columns of the matrix fill the 16 rows of the instruction and activations only its 8 columns: up to 8
// rows cost the same. A warp takes one tile after the other: 128 columns by 32 stored rows. It brings tiles in through a
// ring of its own in shared memory, every lane copying what it will read itself, decodes them in registers and adds up in float.
//
// Who does what is planned when the matrix is loaded (engine/ops/exl2_plan.py): all tiles, column block by column block, are cut into as many
// runs of equal bytes as there are blocks, and a block's share of a column block, a *segment*, into runs for its warps. Warps add up
// in order through shared memory. Where several blocks share a column block, each leaves its sum in the workspace, and the last to come adds
// them up in order: nobody waits, and the result is the same bits whoever is last. The plan does not know how many rows
// there are, so a row's result does not depend on its neighbours. Several matrices of the same inputs are one launch: their
// column blocks follow each other in the plan.
#pragma once

#include "../common/async_copy.cuh"
#include "../common/launch.cuh"
#include "../common/mma.cuh"
#include "../common/shared_memory.cuh"
#include "../common/warp.cuh"
#include "../device.h"
#include "exl2.h"
#include "tile.cuh"

namespace quire {
namespace exl2 {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kMostStages = 4;
constexpr int kRowsPerGroup = 8;  // of activations in one matrix instruction
constexpr int kMostRows = QUIRE_CUDA_EXL2_ROWS;
constexpr int kRowQuads = 4;  // uint4 in a tile's part of a row of activations

// One block's share of one column block, as the plan has it.
struct Segment {
    int column_block;
    int slot;        // where in the workspace the sum of this share goes
    int first_slot;  // of the column block's shares
    int shares;      // of the column block; 1 means that this is all of it
    int bounds[kWarps + 1];  // warp w multiplies tiles bounds[w] … bounds[w + 1] - 1
    int matrix;              // which of the launch's matrices
    int following;           // index of the block's next segment; 0 if this is the last
    int unused;
};
static_assert(sizeof(Segment) == 4 * QUIRE_CUDA_EXL2_SEGMENT_WORDS);

// Sums are exchanged in rows of a tile's columns; the gap keeps the lanes of a store apart.
constexpr int kExchangeStride = kTileColumns + 4;
constexpr int kExchangeBytes = kWarps * kRowsPerGroup * kExchangeStride * 4;

// The stages of a warp's ring: planes of the tile, activations of each row group, and the scale record.
template <int kGroups>
struct Stage {
    static constexpr int kRecordSpace = 8;
    int activations;  // where they begin, in quads
    int record;
    int quads;

    __host__ __device__ explicit Stage(int widest)
        : activations(widest * kPlaneQuads),
          record(activations + kGroups * kPlaneQuads),
          quads(record + kRecordSpace) {}
};

// Waits until all but the newest `newer` groups of copies have arrived.
__device__ __forceinline__ void wait_for_copies(int newer) {
    switch (newer) {
        case 0: return copy_async_wait<0>();
        case 1: return copy_async_wait<1>();
        case 2: return copy_async_wait<2>();
        default: return copy_async_wait<kMostStages - 1>();
    }
}

// Begins to copy one tile, with all that goes with it, into a stage.
template <int kGroups>
__device__ __forceinline__ void fetch(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_step &step, int column_block,
                                      int tile_index, uint4 *stage, Stage<kGroups> layout) {
    const int lane = lane_index();
    const Tile tile = read_tile(matrix.tiles, tile_index);
    const uint4 *planes = static_cast<const uint4 *>(matrix.planes) +
                          (static_cast<int64_t>(column_block) * matrix.plane_count + tile.plane) * kPlaneQuads + lane;
    for (int plane = 0; plane < tile.width; ++plane) {
        copy_async_16(stage + plane * kPlaneQuads + lane, planes + plane * kPlaneQuads);
    }
    const auto *x = static_cast<const __half *>(step.x);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
        const int row = kRowsPerGroup * group + lane / kRowQuads;
        const bool wanted = row < step.rows;
        const __half *source =
            x + static_cast<int64_t>(wanted ? row : 0) * matrix.in_features + tile_index * kTileRows + 8 * (lane % kRowQuads);
        const int place = swizzled_place(lane / kRowQuads, lane % kRowQuads);
        copy_async_16(stage + layout.activations + group * kPlaneQuads + place, source, wanted);
    }
    if (lane < kRecordQuads) {
        const uint4 *record = static_cast<const uint4 *>(matrix.scales) +
                              (static_cast<int64_t>(column_block) * matrix.groups + tile.group) * kRecordQuads;
        copy_async_16(stage + layout.record + lane, record + lane);
    }
}

// Adds a tile's part of the product: [column block of 16][row group][fragment of D].
template <int kWidth, int kGroups>
__device__ __forceinline__ void multiply(const uint4 *stage, Stage<kGroups> layout, const Scales &scales,
                                         float (&sums)[kColumnBlocks][kGroups][4]) {
    const int lane = lane_index();
    uint32_t b[kGroups][kSteps][2];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
        uint32_t x[4];  // pieces 0 … 3 of the rows
        const int place = swizzled_place(lane % kRowsPerGroup, lane / kRowsPerGroup);
        load_matrices<4>(x, stage + layout.activations + group * kPlaneQuads + place);
        b[group][0][0] = x[0];
        b[group][0][1] = x[1];
        b[group][1][0] = x[2];
        b[group][1][1] = x[3];
    }
    uint32_t words[4 * kWidth];
    read_words<kWidth>(stage + lane, words);
#pragma unroll
    for (int m = 0; m < kColumnBlocks; ++m) {
#pragma unroll
        for (int k = 0; k < kSteps; ++k) {
            uint32_t a[4];
            weight_fragment<kWidth>(words, scales.pairs[m], m, k, a);
#pragma unroll
            for (int group = 0; group < kGroups; ++group) mma_f16(sums[m][group], a, b[group][k]);
        }
    }
}

// Adds the product of tiles first … end - 1 of a column block, in order.
template <int kGroups>
__device__ __forceinline__ void multiply_run(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_step &step,
                                             int column_block, int first, int end, uint4 *ring, int stages,
                                             Stage<kGroups> layout, float (&sums)[kColumnBlocks][kGroups][4]) {
    for (int ahead = 0; ahead < stages - 1; ++ahead) {
        if (first + ahead < end) fetch(matrix, step, column_block, first + ahead, ring + ahead * layout.quads, layout);
        copy_async_commit();
    }
    Scales scales;
    int group_of_scales = -1, current = 0, next = stages - 1;
    for (int index = first; index < end; ++index) {
        if (index + stages - 1 < end) {
            fetch(matrix, step, column_block, index + stages - 1, ring + next * layout.quads, layout);
        }
        copy_async_commit();
        wait_for_copies(stages - 1);
        warp_sync();  // record and activations were copied by other lanes
        const uint4 *stage = ring + current * layout.quads;
        const Tile tile = read_tile(matrix.tiles, index);
        if (tile.group != group_of_scales) {
            scales = read_scales(stage + layout.record, lane_index());
            group_of_scales = tile.group;
        }
        with_width(tile.width, [&](auto width) { multiply<decltype(width)::value>(stage, layout, scales, sums); });
        warp_sync();  // the stage is free
        current = current + 1 == stages ? 0 : current + 1;
        next = next + 1 == stages ? 0 : next + 1;
    }
}

// One element of the result: the sum times the row's factor, plus the bias.
__device__ __forceinline__ void finish(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_step &step,
                                       const Segment &segment, int row, int column_of_block, float sum) {
    const int column = segment.column_block * kTileColumns + column_of_block;
    if (column >= matrix.out_features) return;
    float value = step.row_factors == nullptr ? sum : sum * step.row_factors[row];
    if (matrix.bias != nullptr) value += matrix.bias[column];
    const int64_t place = static_cast<int64_t>(row) * matrix.out_features + column;
    void *const out = step.out[segment.matrix];
    if (step.dtype == QUIRE_CUDA_BF16) {
        static_cast<__nv_bfloat16 *>(out)[place] = from_float<__nv_bfloat16>(value);
    } else {
        static_cast<__half *>(out)[place] = from_float<__half>(value);
    }
}

// The block's sum of a segment: warps in order, to the result or to the workspace.
template <int kGroups>
__device__ __forceinline__ void add_warps(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_step &step,
                                          const Segment &segment, const float (&sums)[kColumnBlocks][kGroups][4],
                                          float *exchange) {
    const int g = lane_index() / 4, t = lane_index() % 4;
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
        if (kRowsPerGroup * group >= step.rows) break;
        block_sync();  // the exchange is free: all warps are done with their rings, or with the sums of the group before
        float *own = exchange + warp_index() * kRowsPerGroup * kExchangeStride;
#pragma unroll
        for (int m = 0; m < kColumnBlocks; ++m) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                own[(2 * t + i % 2) * kExchangeStride + 16 * m + 8 * (i / 2) + g] = sums[m][group][i];
            }
        }
        block_sync();
        for (int item = threadIdx.x; item < kRowsPerGroup * kTileColumns; item += kThreads) {
            const int row = kRowsPerGroup * group + item / kTileColumns, column = item % kTileColumns;
            if (row >= step.rows) break;
            float sum = 0.0f;
            for (int warp = 0; warp < kWarps; ++warp) {
                sum += exchange[(warp * kRowsPerGroup + item / kTileColumns) * kExchangeStride + column];
            }
            if (segment.shares == 1) {
                finish(matrix, step, segment, row, column, sum);
            } else {
                step.partials[(static_cast<int64_t>(segment.slot) * kMostRows + row) * kTileColumns + column] = sum;
            }
        }
    }
}

// Notes that this block's share of a column block is in the workspace; true in the block that brought the last one.
__device__ __forceinline__ bool is_last_share(const quire_cuda_exl2_step &step, const Segment &segment) {
    QUIRE_SHARED(int, arrived, 1);
    memory_fence();
    block_sync();
    if (threadIdx.x == 0) {
        arrived[0] = atomic_add(step.arrivals + segment.first_slot, 1) + 1;
        if (arrived[0] == segment.shares) step.arrivals[segment.first_slot] = 0;  // as the next launch wants it
        memory_fence();
    }
    block_sync();
    return arrived[0] == segment.shares;
}

// The sum of all shares of a column block, in order.
__device__ __forceinline__ void add_shares(const quire_cuda_exl2 &matrix, const quire_cuda_exl2_step &step,
                                           const Segment &segment) {
    memory_fence();
    for (int item = threadIdx.x; item < step.rows * kTileColumns; item += kThreads) {
        const float *share = step.partials + static_cast<int64_t>(segment.first_slot) * kMostRows * kTileColumns + item;
        float sum = 0.0f;
        for (int each = 0; each < segment.shares; ++each) sum += share[each * kMostRows * kTileColumns];
        finish(matrix, step, segment, item / kTileColumns, item % kTileColumns, sum);
    }
}

// Weights cannot be asked for before the block knows its segment and its tiles, and both tables have left the caches since the last
// step. So those of tiles are on their way to the second level while the segment is read.
__device__ __forceinline__ void prefetch_tile_tables(const quire_cuda_exl2_work &work) {
    constexpr int kTilesPerLine = 16;
    for (int matrix = 0; matrix < work.count; ++matrix) {
        const quire_cuda_exl2 &each = work.matrices[matrix];
        for (int tile = threadIdx.x * kTilesPerLine; tile < each.in_features / kTileRows; tile += kThreads * kTilesPerLine) {
            prefetch(each.tiles + 2 * tile);
        }
    }
}

// Where registers allow it, two blocks share a processor.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
constexpr int kMostGroupsForTwoBlocks = 1;
#else
constexpr int kMostGroupsForTwoBlocks = 2;
#endif

// Up to 8 kGroups rows.
template <int kGroups>
__global__ __launch_bounds__(kThreads, kGroups <= kMostGroupsForTwoBlocks ? 2 : 1) void matmul_kernel(
    const __grid_constant__ quire_cuda_exl2_work work, const __grid_constant__ quire_cuda_exl2_step step, int stages) {
    QUIRE_DYNAMIC_SHARED(uint4, memory);
    const Stage<kGroups> layout(work.widest);
    uint4 *const ring = memory + warp_index() * stages * layout.quads;
    prefetch_tile_tables(work);
    int index = blockIdx.x;
    do {
        const Segment &segment = reinterpret_cast<const Segment *>(work.segments)[index];
        const quire_cuda_exl2 &matrix = work.matrices[segment.matrix];
        float sums[kColumnBlocks][kGroups][4] = {};
        multiply_run<kGroups>(matrix, step, segment.column_block, segment.bounds[warp_index()],
                              segment.bounds[warp_index() + 1], ring, stages, layout, sums);
        add_warps<kGroups>(matrix, step, segment, sums, reinterpret_cast<float *>(static_cast<uint4 *>(memory)));
        if (segment.shares > 1 && is_last_share(step, segment)) add_shares(matrix, step, segment);
        block_sync();  // the next segment may use the ring again
        index = segment.following;
    } while (index != 0);
}

// Launches the kernel for up to 8 kGroups rows, with as many stages as fit.
template <int kGroups>
int32_t launch_matmul(const quire_cuda_exl2_work &work, const quire_cuda_exl2_step &step, void *stream) {
    const size_t stage_bytes = sizeof(uint4) * kWarps * Stage<kGroups>(work.widest).quads;
    const size_t stages = work.shared_bytes / stage_bytes;
    if (stages == 0) return QUIRE_CUDA_UNSUPPORTED;
    const size_t used = stages < kMostStages ? stages : kMostStages;
    const size_t ring_bytes = used * stage_bytes;
    return launch(matmul_kernel<kGroups>, dim3(static_cast<unsigned>(work.blocks)), dim3(kThreads),
                  ring_bytes < kExchangeBytes ? kExchangeBytes : ring_bytes, stream, work, step,
                  static_cast<int>(used));
}

template <int kGroups>
int32_t prepare_matmul() {
    return prepare(matmul_kernel<kGroups>, exl2_shared_bytes(shared_bytes_per_block()));
}

}  // namespace exl2
}  // namespace quire
