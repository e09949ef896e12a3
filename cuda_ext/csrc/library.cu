// The library as a whole: its version, and making every kernel ready.
#include "attention/attention.h"
#include "device.h"
#include "elementwise/elementwise.h"
#include "exl2/exl2.h"
#include "quire_cuda.h"
#include "sampling/sampling.h"

namespace quire {
namespace {

// Every family's kernels, on the current device.
int32_t prepare_kernels() {
    int32_t (*const families[])() = {prepare_gather, prepare_norm, prepare_elementwise, prepare_rotary,
                                     prepare_kv_cache, prepare_attention, prepare_exl2, prepare_sampling};
    for (const auto prepare_family : families) {
        if (const int32_t status = prepare_family(); status != 0) return status;
    }
    return QUIRE_CUDA_OK;
}

}  // namespace
}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_abi_version(void) { return QUIRE_CUDA_ABI_VERSION; }

QUIRE_CUDA_API int32_t quire_cuda_init(int32_t device) { return quire::with_device(device, quire::prepare_kernels); }

}
