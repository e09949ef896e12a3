// The one way a kernel is started, and the one way it is made ready.
#pragma once

#include "platform.cuh"

#ifdef QUIRE_EMULATE
#include "emulation/launch.h"
#else
namespace quire {

// Starts `kernel` on a stream; 0, or the cudaError_t. An empty grid starts nothing.
template <typename... Parameters, typename... Arguments>
int32_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared, void *stream,
               Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = dynamic_shared;
    config.stream = static_cast<cudaStream_t>(stream);
    return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// Loads the kernel's code onto the current device and allows it this much dynamic shared memory, so that no launch has
// to. Kernels that ask for such memory count on as many blocks sharing a processor as fit it whole, and read past the
// first-level cache; left to itself, the driver may give that cache what a second block would need.
template <typename... Parameters>
int32_t prepare(void (*kernel)(Parameters...), size_t dynamic_shared = 0) {
    const void *code = reinterpret_cast<const void *>(kernel);
    cudaFuncAttributes attributes;
    cudaError_t status = cudaFuncGetAttributes(&attributes, code);
    if (status == cudaSuccess && attributes.sharedSizeBytes + dynamic_shared > 48 * 1024) {
        status = cudaFuncSetAttribute(code, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(dynamic_shared));
    }
    if (status == cudaSuccess && dynamic_shared > 0) {
        status = cudaFuncSetAttribute(code, cudaFuncAttributePreferredSharedMemoryCarveout,
                                      cudaSharedmemCarveoutMaxShared);
    }
    return status;
}

}  // namespace quire
#endif

namespace quire {

// The first status that is not 0.
template <typename... Statuses>
int32_t first_error(Statuses... statuses) {
    int32_t first = 0;
    ((first = first != 0 ? first : static_cast<int32_t>(statuses)), ...);
    return first;
}

constexpr int64_t blocks_for(int64_t count, int64_t per_block) { return (count + per_block - 1) / per_block; }

}  // namespace quire
