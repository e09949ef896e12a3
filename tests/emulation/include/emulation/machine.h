// The emulated device, as the wrappers of cuda_ext/csrc/common see it. What it does and does not check:
// docs/kernels.md.
//
// A launch runs its blocks on the calling thread. Every thread of a block is a fiber: it runs until it has to wait (at
// a barrier, for the other lanes of its warp, for another block), and then the next one does. Which one is next is the
// schedule's choice; a kernel whose result depends on it has a race.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "vector_types.h"

namespace emulation {

constexpr int kLanes = 32;
constexpr size_t kMostBytesPerLane = 64;

// Indices of the thread that runs now.
struct Place {
    uint3 thread, block;
    dim3 block_size, grid_size;
};
const Place &place();

// Ends the launch with this message; quire_cuda_error_message gives it. Does not return.
[[noreturn]] void fail(const std::string &message);

// All threads of the block meet here.
void wait_for_block();

// What a warp does together: every lane brings `bytes` at `operand`; when all have come, `compute` runs once over the
// 32 operands (kMostBytesPerLane apart) and leaves each lane's result in the same place, which is then copied back.
// `name` tells the operation apart from others that lanes may wait at.
using WarpFunction = void (*)(unsigned char *operands, const void *extra);
void warp_together(const char *name, void *operand, size_t bytes, WarpFunction compute, const void *extra = nullptr);

// Lets other blocks run; for loops that wait for one.
void pause_for_other_blocks();

// The block's memory of this name: the same for all of its threads, filled with 0xff bytes at first. An end that is
// overwritten is noticed when the block ends.
void *shared_memory(const char *name, size_t bytes);

// What the launch asked for.
void *dynamic_shared_memory();
size_t dynamic_shared_bytes();

// Whether `bytes` from `address` lie within the block's shared memory.
bool is_shared(const void *address, size_t bytes);

// Asynchronous copies of the current thread.
void begin_copy(void *shared, const void *global, size_t bytes, bool wanted);
void commit_copies();
void wait_for_copies(int pending_groups);

// Work of the current thread that goes on beside it, in groups like copies: it is done when it is waited for.
void begin_later(std::function<void()> work);
void commit_later();
void wait_for_later(int pending_groups);

// Runs `thread` once for each thread of the grid; 0, or a status for quire_cuda_error_message.
int32_t run(dim3 grid, dim3 block, size_t dynamic_shared, const std::function<void()> &thread);

// Notes how much dynamic shared memory a kernel may be given; 48 KiB without it, as on a device.
int32_t allow_shared(const void *kernel, size_t bytes);
int32_t check_shared(const void *kernel, size_t bytes);

inline void require_aligned(const void *address, size_t bytes, const char *what) {
    if (reinterpret_cast<uintptr_t>(address) % bytes != 0) {
        fail(std::string(what) + " of " + std::to_string(bytes) + " bytes at an address that is not aligned to them");
    }
}

}  // namespace emulation
