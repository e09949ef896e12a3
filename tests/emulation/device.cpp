// cuda_ext/csrc/device.h for the emulated device, and what else the emulated library exports.
#include "device.h"

#include "emulator.h"
#include "quire_cuda.h"

namespace quire {

int32_t with_device(int32_t, int32_t (*work)()) { return work(); }
int32_t capability_major() { return 9; }

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_device_info(int32_t, quire_cuda_device *info) {
    *info = {};
    info->capability_major = 9;
    info->capability_minor = 0;
    info->processors = 4;
    info->shared_bytes_per_block = 227 * 1024;
    info->l2_bytes = 4 << 20;
    return QUIRE_CUDA_OK;
}

QUIRE_CUDA_API int32_t quire_cuda_driver_version(void) { return 0; }
QUIRE_CUDA_API int32_t quire_cuda_runtime_version(void) { return 0; }

QUIRE_CUDA_API const char *quire_cuda_error_message(int32_t status) {
    return status == emulation::kLaunchFailed ? emulation::last_failure() : "unknown";
}

QUIRE_CUDA_API void quire_emulation_set_schedule(int32_t schedule, uint64_t seed) {
    emulation::set_schedule(schedule, seed);
}

}
