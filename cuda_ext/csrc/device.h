// What the library asks of the CUDA runtime besides launches. Emulation has another implementation
// (tests/emulation/device.cpp).
#pragma once

#include <cstddef>
#include <cstdint>

namespace quire {

// Runs `work` with `device` current, and gives the calling thread back the device it had.
int32_t with_device(int32_t device, int32_t (*work)());

// Of the compute capability of the current device; 0 where it does not tell.
int32_t capability_major();

// Shared memory that a block may have on the current device; 0 where it does not tell.
size_t shared_bytes_per_block();

}  // namespace quire
