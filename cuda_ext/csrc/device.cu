// The device itself: what it is, what the driver can do, and what its errors mean.
#include "device.h"

#include <cuda_runtime.h>

#include <cstring>

#include "quire_cuda.h"

namespace quire {

int32_t with_device(int32_t device, int32_t (*work)()) {
    int before = 0;
    cudaError_t status = cudaGetDevice(&before);
    if (status == cudaSuccess) status = cudaSetDevice(device);
    if (status != cudaSuccess) return status;
    const int32_t result = work();
    status = cudaSetDevice(before);
    return result != 0 ? result : static_cast<int32_t>(status);
}

namespace {

int32_t attribute(cudaDeviceAttr which, int32_t device, int32_t *value) {
    int found = 0;
    const cudaError_t status = cudaDeviceGetAttribute(&found, which, device);
    *value = found;
    return status;
}

// Of the current device; 0 where it does not tell.
int32_t attribute_here(cudaDeviceAttr which) {
    int device = 0;
    int32_t value = 0;
    return cudaGetDevice(&device) == cudaSuccess && attribute(which, device, &value) == 0 ? value : 0;
}

}  // namespace

int32_t capability_major() { return attribute_here(cudaDevAttrComputeCapabilityMajor); }

size_t shared_bytes_per_block() {
    return static_cast<size_t>(attribute_here(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

}  // namespace quire

extern "C" {

QUIRE_CUDA_API int32_t quire_cuda_device_info(int32_t device, quire_cuda_device *info) {
    std::memset(info, 0, sizeof *info);
    int32_t status = quire::attribute(cudaDevAttrComputeCapabilityMajor, device, &info->capability_major);
    if (status == 0) status = quire::attribute(cudaDevAttrComputeCapabilityMinor, device, &info->capability_minor);
    if (status == 0) status = quire::attribute(cudaDevAttrMultiProcessorCount, device, &info->processors);
    if (status == 0) {
        status = quire::attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device, &info->shared_bytes_per_block);
    }
    if (status == 0) status = quire::attribute(cudaDevAttrL2CacheSize, device, &info->l2_bytes);
    return status;
}

QUIRE_CUDA_API int32_t quire_cuda_driver_version(void) {
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

QUIRE_CUDA_API int32_t quire_cuda_runtime_version(void) { return CUDART_VERSION; }

QUIRE_CUDA_API const char *quire_cuda_error_message(int32_t status) {
    return cudaGetErrorString(static_cast<cudaError_t>(status));
}

}
