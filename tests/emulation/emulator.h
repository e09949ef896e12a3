// What the tests may ask of the emulated device.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

// In which order blocks, and threads between barriers, run.
enum Schedule { kForward = 0, kReverse = 1, kShuffled = 2 };

// Status of a launch that failed; why is in last_failure().
constexpr int32_t kLaunchFailed = 719;  // cudaErrorLaunchFailure

void set_schedule(int schedule, uint64_t seed);
void set_shared_limit(size_t bytes);  // of a block
const char *last_failure();

}  // namespace emulation
