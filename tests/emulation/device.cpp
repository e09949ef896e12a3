// cuda_ext/csrc/device.h for the emulated device, and what else the emulated library exports.
#include "device.h"

#include "emulator.h"
#include "quire_cuda.h"

namespace {

quire_cuda_device card = {};

}  // namespace

namespace quire {

int32_t with_device(int32_t, int32_t (*work)()) { return work(); }
int32_t capability_major() { return card.capability_major; }
size_t shared_bytes_per_block() { return static_cast<size_t>(card.shared_bytes_per_block); }

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_device_info(int32_t, quire_cuda_device *info) {
    *info = card;
    return QUIRE_CUDA_OK;
}

QUIRE_CUDA_API int32_t quire_cuda_driver_version(void) { return 0; }
QUIRE_CUDA_API int32_t quire_cuda_runtime_version(void) { return 0; }

QUIRE_CUDA_API const char *quire_cuda_error_message(int32_t status) {
    return status == emulation::kLaunchFailed ? emulation::last_failure() : "unknown";
}

QUIRE_CUDA_API void quire_emulation_set_card(const quire_cuda_device *wanted) {
    card = *wanted;
    emulation::set_shared_limit(quire::shared_bytes_per_block());
}

QUIRE_CUDA_API void quire_emulation_set_schedule(int32_t schedule, uint64_t seed) {
    emulation::set_schedule(schedule, seed);
}

}
