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

}  // namespace

int32_t capability_major() {
    int device = 0;
    int32_t major = 0;
    const int32_t status = cudaGetDevice(&device);
    return status == 0 && attribute(cudaDevAttrComputeCapabilityMajor, device, &major) == 0 ? major : 0;
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
