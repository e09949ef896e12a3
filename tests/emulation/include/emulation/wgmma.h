// Matrix instructions of warp groups. Register fragments are those of the PTX ISA, "Register Fragments for
// wgmma.mma_async.m64nNk16"; shared memory is read by byte addresses as "Shared Memory Matrix Layout" has them for 64-byte
// swizzling: bits 4 and 5 of an address are changed by bits 7 and 8.
//
// An instruction is carried out when it is waited for: what is in shared memory and in the registers of A then is what counts,
// and that registers of A are still as they were is checked.
#pragma once

#include <cstring>

#include "machine.h"
#include "mma.h"

namespace quire {

struct SharedMatrix {
    const unsigned char *begin;
};

namespace emulated {

struct GroupOperands {
    uint32_t a[4];
    float *d;
    const unsigned char *b;
};

inline float element_of_b(const unsigned char *begin, int n, int k) {
    auto address = reinterpret_cast<uintptr_t>(begin) + 64 * n + 2 * k;
    address ^= (address >> 7 & 3) << 4;
    uint16_t bits;
    std::memcpy(&bits, reinterpret_cast<const void *>(address), sizeof bits);
    return emulation::half_table.values[bits];
}

inline void multiply_group(unsigned char *operands, const void *) {
    double a[16][16];
    float b[64][16];
    GroupOperands lanes[emulation::kLanes];
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(&lanes[lane], operands + lane * emulation::kMostBytesPerLane, sizeof lanes[lane]);
        for (int i = 0; i < 8; ++i) {
            const Index at = a_element(lane, i);
            a[at.row][at.column] = element_of<half_element>(lanes[lane].a, i);
        }
    }
    for (int n = 0; n < 64; ++n) {
        for (int k = 0; k < 16; ++k) b[n][k] = element_of_b(lanes[0].b, n, k);
    }
    for (const GroupOperands &lane : lanes) {
        if (lane.b != lanes[0].b) emulation::fail("wgmma: lanes of one warp name different matrices");
        const int index = static_cast<int>(&lane - lanes);
        for (int i = 0; i < 32; ++i) {
            const int row = index / 4 + (i % 4 < 2 ? 0 : 8), n = i / 4 * 8 + index % 4 * 2 + i % 2;
            double sum = lane.d[i];
            for (int k = 0; k < 16; ++k) sum += a[row][k] * b[n][k];
            lane.d[i] = static_cast<float>(sum);
        }
    }
}

}  // namespace emulated

inline SharedMatrix shared_matrix(const void *rows, int step) {
    emulation::require_aligned(rows, kMatrixAlignment, "matrix");
    if (!emulation::is_shared(rows, 64 * 64)) emulation::fail("wgmma: a matrix outside shared memory");
    return {static_cast<const unsigned char *>(rows) + 32 * step};
}

inline void wgmma_f16(float (&d)[32], const uint32_t (&a)[4], SharedMatrix b) {
    emulated::GroupOperands operands = {{a[0], a[1], a[2], a[3]}, d, b.begin};
    static_assert(sizeof operands <= emulation::kMostBytesPerLane);
    const uint32_t *registers = a;
    emulation::begin_later([operands, registers]() mutable {
        if (std::memcmp(registers, operands.a, sizeof operands.a) != 0) {
            emulation::fail("wgmma: registers of A were changed before it was waited for");
        }
        emulation::warp_together("wgmma", &operands, sizeof operands, emulated::multiply_group);
    });
}

inline void wgmma_begin() {}
inline void wgmma_commit() { emulation::commit_later(); }

template <int kPending>
void wgmma_wait() {
    emulation::wait_for_later(kPending);
}

inline void publish_to_wgmma() {}

}  // namespace quire
