#include "simd/portable.h"

#include "impl/table.h"

namespace quire {

const Kernels *portable_kernels() { return &kTable; }

}  // namespace quire
