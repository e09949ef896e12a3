#include "simd/avx512.h"

#include "impl/table.h"

namespace quire {

const Kernels *avx512_kernels() { return &kTable; }

}  // namespace quire
