// Who computes what of sequences with few tokens. Such a sequence has a tile of queries for each key head (or several, where
// many heads share one). The *units* of work, counted sequence by sequence, tile by tile, are chunks as long as the workspace
// holds all their parts, and otherwise whole tiles. Each block takes an even run of them. How many there are is read on the
// device: a launch has the same blocks for any lengths.
#pragma once

#include "../common/warp.cuh"
#include "softmax.cuh"

namespace quire {

// A sequence, as decoding sees it.
struct DecodeSequence {
    Rows rows;
    Visible visible;  // by any of its rows
    int tiles = 0;    // 0 where it has no rows, or too many

    __device__ __forceinline__ int units(bool split) const { return split ? tiles * visible.chunks() : tiles; }
};

__device__ __forceinline__ DecodeSequence read_sequence(const AttentionCall &call, int index) {
    DecodeSequence sequence;
    if (index >= call.sequences) return sequence;
    sequence.rows = rows_of(call, index);
    if (sequence.rows.count < 1 || sequence.rows.count > call.decode.tokens) return sequence;
    sequence.visible = {seen_from(call, sequence.rows.position).first, sequence.rows.position + sequence.rows.count - 1};
    sequence.tiles = call.kv_heads * call.decode.tiles;
    return sequence;
}

// Whether the workspace holds the parts of `chunks`.
__device__ __forceinline__ bool is_split(const AttentionCall &call, int chunks) { return chunks <= call.most_partials; }

// A chunk of a tile, and how this block goes on from there.
struct Cursor {
    int left = 0;  // units of this block, this one included; none at the end
    int unit = 0;
    bool split = false;
    int index = 0;  // of the sequence
    DecodeSequence sequence;
    int tile = 0, chunk = 0;

    __device__ __forceinline__ bool exists() const { return left > 0; }
    __device__ __forceinline__ bool is_last_of_tile() const { return chunk == sequence.visible.last_chunk(); }

    __device__ __forceinline__ void advance(const AttentionCall &call) {
        const bool tile_ends = is_last_of_tile();
        if (split || tile_ends) {
            ++unit;
            if (--left == 0) return;
        }
        ++chunk;
        if (!tile_ends) return;
        if (++tile == sequence.tiles) {
            tile = 0;
            do sequence = read_sequence(call, ++index);
            while (sequence.tiles == 0);
        }
        chunk = sequence.visible.first_chunk();
    }
};

// Where a block begins. All lanes of the block's warps call this.
__device__ __forceinline__ Cursor first_chunk_of_block(const AttentionCall &call) {
    int chunks = 0, tiles = 0;
    QUIRE_UNROLL(4)
    for (int index = lane_index(); index < call.sequences; index += kWarp) {
        const DecodeSequence sequence = read_sequence(call, index);
        chunks += sequence.units(true);
        tiles += sequence.units(false);
    }
    Cursor cursor;
    chunks = warp_sum(chunks);
    tiles = warp_sum(tiles);
    cursor.split = is_split(call, chunks);
    const int64_t units = cursor.split ? chunks : tiles;
    cursor.unit = static_cast<int>(units * blockIdx.x / gridDim.x);
    cursor.left = static_cast<int>(units * (blockIdx.x + 1) / gridDim.x) - cursor.unit;
    if (cursor.left == 0) return cursor;

    int before = 0;
    for (int first = 0; first < call.sequences; first += kWarp) {
        const int own = read_sequence(call, first + lane_index()).units(cursor.split);
        const int through = before + warp_running_sum(own);
        const unsigned beyond = ballot(through > cursor.unit);
        if (beyond != 0) {
            const int lane = __ffs(static_cast<int>(beyond)) - 1;
            cursor.index = first + lane;
            before = shuffle(through - own, lane);
            break;
        }
        before = shuffle(through, kWarp - 1);
    }
    cursor.sequence = read_sequence(call, cursor.index);
    const int within = cursor.unit - before, per_tile = cursor.split ? cursor.sequence.visible.chunks() : 1;
    cursor.tile = within / per_tile;
    cursor.chunk = cursor.sequence.visible.first_chunk() + within % per_tile;
    return cursor;
}

// Where the workspace holds a chunk's part of a tile's row.
__device__ __forceinline__ float *partial_row(const AttentionCall &call, int unit, int row) {
    return call.workspace + (static_cast<int64_t>(unit) * call.partial_rows + row) * (call.head_dim + kStateFloats);
}

}  // namespace quire
