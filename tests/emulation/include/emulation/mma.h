// Matrix instructions. The fragment maps are those of the PTX ISA, section "Matrix Fragments for mma.m16n8k16 with
// floating point type" and the description of ldmatrix, written here by element as the tables have them. Products are
// exact and summed in double; a device rounds the sum in float, in an order of its own.
#pragma once

#include <cstring>

#include "halves.h"
#include "machine.h"

namespace quire {
namespace emulated {

struct Index {
    int row, column;
};

// Where element i (0 … 7) of lane's A fragment stands.
constexpr Index a_element(int lane, int i) {
    const int group = lane >> 2, thread = lane % 4;
    const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
    const int column = i < 4 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8;
    return {row, column};
}

// Element i (0 … 3) of a B fragment.
constexpr Index b_element(int lane, int i) {
    const int group = lane >> 2, thread = lane % 4;
    return {i < 2 ? thread * 2 + (i & 1) : thread * 2 + (i & 1) + 8, group};
}

// Element i (0 … 3) of a C or D fragment.
constexpr Index d_element(int lane, int i) {
    const int group = lane >> 2, thread = lane % 4;
    return {i < 2 ? group : group + 8, thread * 2 + (i & 1)};
}

struct MmaOperands {
    float d[4];
    uint32_t a[4], b[2];
};

// How the instruction reads the 16 bits of an element.
using ElementValue = float (*)(uint16_t bits);
inline float half_element(uint16_t bits) { return emulation::half_table.values[bits]; }
inline float bfloat_element(uint16_t bits) { return emulation::bfloat_value(bits); }

template <ElementValue kValue>
float element_of(const uint32_t *words, int index) {
    return kValue(static_cast<uint16_t>(words[index / 2] >> (16 * (index % 2))));
}

template <ElementValue kValue>
void multiply(unsigned char *operands, const void *) {
    double a[16][16], b[16][8];
    MmaOperands lanes[emulation::kLanes];
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(&lanes[lane], operands + lane * emulation::kMostBytesPerLane, sizeof lanes[lane]);
        for (int i = 0; i < 8; ++i) {
            const Index at = a_element(lane, i);
            a[at.row][at.column] = element_of<kValue>(lanes[lane].a, i);
        }
        for (int i = 0; i < 4; ++i) {
            const Index at = b_element(lane, i);
            b[at.row][at.column] = element_of<kValue>(lanes[lane].b, i);
        }
    }
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        for (int i = 0; i < 4; ++i) {
            const Index at = d_element(lane, i);
            double sum = lanes[lane].d[i];
            for (int k = 0; k < 16; ++k) sum += a[at.row][k] * b[k][at.column];
            lanes[lane].d[i] = static_cast<float>(sum);
        }
        std::memcpy(operands + lane * emulation::kMostBytesPerLane, &lanes[lane], sizeof lanes[lane]);
    }
}

struct MatrixLoad {
    const unsigned char *row;
    uint32_t result[4];
};

struct MatrixShape {
    int count;
    bool transposed;
};

inline void load_rows(unsigned char *operands, const void *extra) {
    const MatrixShape shape = *static_cast<const MatrixShape *>(extra);
    MatrixLoad lanes[emulation::kLanes];
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(&lanes[lane], operands + lane * emulation::kMostBytesPerLane, sizeof lanes[lane]);
    }
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        for (int matrix = 0; matrix < shape.count; ++matrix) {
            uint16_t pair[2];
            for (int i = 0; i < 2; ++i) {
                const int row = shape.transposed ? 2 * (lane % 4) + i : lane / 4;
                const int column = shape.transposed ? lane / 4 : 2 * (lane % 4) + i;
                std::memcpy(&pair[i], lanes[8 * matrix + row].row + 2 * column, sizeof pair[i]);
            }
            lanes[lane].result[matrix] = pair[0] | static_cast<uint32_t>(pair[1]) << 16;
        }
        std::memcpy(operands + lane * emulation::kMostBytesPerLane, &lanes[lane], sizeof lanes[lane]);
    }
}

template <int kCount>
void load_matrices(uint32_t (&r)[kCount], const void *row, bool transposed) {
    static_assert(kCount == 1 || kCount == 2 || kCount == 4);
    const int lane = static_cast<int>(threadIdx.x) % emulation::kLanes;
    if (lane < 8 * kCount) {
        emulation::require_aligned(row, 16, "matrix row");
        if (!emulation::is_shared(row, 16)) emulation::fail("ldmatrix: a row outside shared memory");
    }
    MatrixLoad load = {static_cast<const unsigned char *>(row), {}};
    const MatrixShape shape = {kCount, transposed};
    emulation::warp_together(transposed ? "load_matrices_transposed" : "load_matrices", &load, sizeof load, load_rows,
                             &shape);
    for (int i = 0; i < kCount; ++i) r[i] = load.result[i];
}

inline void mma(const char *name, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                emulation::WarpFunction compute) {
    MmaOperands operands;
    static_assert(sizeof operands <= emulation::kMostBytesPerLane);
    std::memcpy(operands.d, d, sizeof d);
    std::memcpy(operands.a, a, sizeof a);
    std::memcpy(operands.b, b, sizeof b);
    emulation::warp_together(name, &operands, sizeof operands, compute);
    std::memcpy(d, operands.d, sizeof d);
}

}  // namespace emulated

inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::mma("mma_f16", d, a, b, emulated::multiply<emulated::half_element>);
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    emulated::mma("mma_bf16", d, a, b, emulated::multiply<emulated::bfloat_element>);
}

template <int kCount>
void load_matrices(uint32_t (&r)[kCount], const void *row) {
    emulated::load_matrices(r, row, false);
}

template <int kCount>
void load_matrices_transposed(uint32_t (&r)[kCount], const void *row) {
    emulated::load_matrices(r, row, true);
}

}  // namespace quire
