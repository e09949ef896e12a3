#include "simd/avx2.h"

#include "impl/table.h"

namespace quire {

const Kernels *avx2_kernels() { return &kTable; }

}  // namespace quire
