// Exact decoding of whole matrices: from the layout of the file, in the plainest way, and from tiles.
#include "dequantize.h"

#include "../common/launch.cuh"
#include "../common/numbers.cuh"
#include "../common/shared_memory.cuh"
#include "../common/warp.cuh"
#include "exl2.h"
#include "tile.cuh"

namespace quire {
namespace exl2 {
namespace {

constexpr int kColumnsPerBlock = 128;

// One thread decodes 32 stored rows of one column, with the format's three roundings. Products of two halves are exact in float.
__global__ void decode_stored_kernel(const uint32_t *q_weight, const int32_t *tiles, const uint32_t *q_scale,
                                     const __half *units, const int *features, int columns, __half *out) {
    const int column = blockIdx.x * kColumnsPerBlock + threadIdx.x;
    if (column >= columns) return;
    const Tile tile = read_tile(tiles, blockIdx.y);
    const uint32_t code = q_scale[static_cast<int64_t>(tile.group) * (columns / 8) + column / 8] >> (4 * (column % 8)) & 15u;
    const float root = static_cast<float>(code + 1);
    const float scale = to_float(from_float<__half>(root * root * to_float(units[tile.group])));
    const uint32_t *words = q_weight + static_cast<int64_t>(tile.plane) * columns + column;
    const uint32_t mask = (1u << tile.width) - 1;
    const int zero = 1 << (tile.width - 1);
    for (int row = 0; row < kTileRows; ++row) {
        const int word = row * tile.width / 32, shift = row * tile.width % 32;
        uint32_t bits = words[static_cast<int64_t>(word) * columns] >> shift;
        if (shift + tile.width > 32) bits |= words[static_cast<int64_t>(word + 1) * columns] << (32 - shift);
        const float level = static_cast<float>(static_cast<int>(bits & mask) - zero);
        const int64_t feature = features[blockIdx.y * kTileRows + row];
        out[feature * columns + column] = from_float<__half>(level * scale);
    }
}

constexpr int kWarps = 4;
constexpr int kStride = kTileColumns + 8;  // halves between rows of a tile on its way out

// One warp decodes one tile, and writes each of its rows to that row's feature, or in stored order.
template <typename T>
__global__ __launch_bounds__(kWarps *kWarp) void decode_tiles_kernel(quire_cuda_exl2 matrix, int first_block, T *out,
                                                                     int64_t stride) {
    QUIRE_SHARED(__half, memory, kWarps *kTileRows *kStride);
    const int index = blockIdx.x * kWarps + warp_index(), lane = lane_index();
    if (index >= matrix.in_features / kTileRows) return;
    const Tile tile = read_tile(matrix.tiles, index);
    const int64_t column_block = first_block + blockIdx.y;
    const uint4 *planes =
        static_cast<const uint4 *>(matrix.planes) + (column_block * matrix.plane_count + tile.plane) * kPlaneQuads + lane;
    const uint4 *record =
        static_cast<const uint4 *>(matrix.scales) + (column_block * matrix.groups + tile.group) * kRecordQuads;
    const Scales scales = read_scales(record, lane);
    __half *const rows = memory + warp_index() * kTileRows * kStride;
    with_width(tile.width, [&](auto width) {
        constexpr int kWidth = decltype(width)::value;
        uint32_t words[4 * kWidth];
        read_words<kWidth>(planes, words);
#pragma unroll
        for (int m = 0; m < kColumnBlocks; ++m) {
#pragma unroll
            for (int k = 0; k < kSteps; ++k) {
                uint32_t a[4];
                weight_fragment<kWidth>(words, scales.pairs[m], m, k, a);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const int row = 16 * k + 8 * (i / 2) + 2 * (lane % 4), column = 16 * m + 8 * (i % 2) + lane / 4;
                    rows[row * kStride + column] = __low2half(as_halves(a[i]));
                    rows[(row + 1) * kStride + column] = __high2half(as_halves(a[i]));
                }
            }
        }
    });
    warp_sync();
    for (int row = 0; row < kTileRows; ++row) {
        const int64_t stored = static_cast<int64_t>(index) * kTileRows + row;
        const int64_t feature = matrix.features == nullptr ? stored : matrix.features[stored];
        T *const target = out + feature * stride + static_cast<int64_t>(blockIdx.y) * kTileColumns;
        for (int column = lane; column < kTileColumns; column += kWarp) {
            target[column] = from_float<T>(to_float(rows[row * kStride + column]));
        }
    }
}

}  // namespace
}  // namespace exl2

int32_t prepare_exl2_decode() {
    return first_error(prepare(exl2::decode_stored_kernel), prepare(exl2::decode_tiles_kernel<__half>),
                       prepare(exl2::decode_tiles_kernel<__nv_bfloat16>));
}

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_exl2_decode(void *stream, const int32_t *q_weight, const int32_t *q_scale,
                                              const void *units, const int32_t *tiles, const int32_t *features,
                                              int64_t in_features, int64_t columns, void *out) {
    using namespace quire;
    const dim3 grid(static_cast<unsigned>(blocks_for(columns, exl2::kColumnsPerBlock)),
                    static_cast<unsigned>(in_features / exl2::kTileRows));
    return launch(exl2::decode_stored_kernel, grid, dim3(exl2::kColumnsPerBlock), 0, stream,
                  reinterpret_cast<const uint32_t *>(q_weight), tiles,
                  reinterpret_cast<const uint32_t *>(q_scale), static_cast<const __half *>(units), features,
                  static_cast<int>(columns), static_cast<__half *>(out));
}

QUIRE_CUDA_API int32_t quire_cuda_exl2_decode_tiles(void *stream, const quire_cuda_exl2 *matrix, int64_t first_block,
                                                    int64_t blocks, void *out, int64_t stride, int32_t dtype) {
    using namespace quire;
    return with_activation_type(dtype, [=](auto tag) {
        using T = typename decltype(tag)::type;
        const dim3 grid(static_cast<unsigned>(blocks_for(matrix->in_features / exl2::kTileRows, exl2::kWarps)),
                        static_cast<unsigned>(blocks));
        return launch(exl2::decode_tiles_kernel<T>, grid, dim3(exl2::kWarps * kWarp), 0, stream, *matrix,
                      static_cast<int>(first_block), static_cast<T *>(out), stride);
    });
}

}
