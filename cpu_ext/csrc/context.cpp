#include "context.h"

#ifdef QUIRE_X86
#include <cpuid.h>
#endif

#include <exception>

#include "quire_cpu.h"

using quire::Kernels;

namespace {

#ifdef QUIRE_X86
// Clang's __builtin_cpu_supports does not know this one.
bool has_f16c() {
    unsigned int a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
#endif

const Kernels *supported_kernels(int32_t isa) {
    switch (isa) {
        case QUIRE_ISA_PORTABLE: return quire::portable_kernels();
#ifdef QUIRE_X86
        case QUIRE_ISA_AVX2:
            __builtin_cpu_init();
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() ? quire::avx2_kernels()
                                                                                                 : nullptr;
        case QUIRE_ISA_AVX512:
            __builtin_cpu_init();
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
                       ? quire::avx512_kernels()
                       : nullptr;
#endif
        default: return nullptr;
    }
}

int32_t widest_supported_isa() {
    for (int32_t isa : {QUIRE_ISA_AVX512, QUIRE_ISA_AVX2}) {
        if (supported_kernels(isa) != nullptr) return isa;
    }
    return QUIRE_ISA_PORTABLE;
}

}  // namespace

quire_context::quire_context(int threads, const Kernels &kernels, int32_t isa)
    : kernels(kernels), isa(isa), pool(threads), thread_scratch(static_cast<size_t>(threads)) {
    reserve_thread_scratch(quire::kLinearScratch);
}

void quire_context::reserve_thread_scratch(int64_t floats) {
    for (auto &scratch : thread_scratch) scratch.reserve(floats);
}

int32_t quire_abi_version(void) { return QUIRE_CPU_ABI_VERSION; }

int32_t quire_isa_supported(int32_t isa) { return supported_kernels(isa) != nullptr ? 1 : 0; }

quire_context *quire_context_create(int32_t threads, int32_t isa) {
    const int32_t chosen = isa == QUIRE_ISA_AUTO ? widest_supported_isa() : isa;
    const Kernels *kernels = supported_kernels(chosen);
    if (threads < 1 || kernels == nullptr) return nullptr;
    try {
        return new quire_context(threads, *kernels, chosen);
    } catch (const std::exception &) {  // no memory, or no thread to be had
        return nullptr;
    }
}

void quire_context_destroy(quire_context *context) {
    // The workers of a forked context live in another process: there is nothing to end, and the handles to them must
    // not be touched.
    if (context != nullptr && !context->pool.forked()) delete context;
}

int32_t quire_context_isa(const quire_context *context) { return context->isa; }
