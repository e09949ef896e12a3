// A launch runs at once and to its end.
#pragma once

#include <cstdint>

#include "machine.h"

namespace quire {

template <typename... Parameters, typename... Arguments>
int32_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t dynamic_shared, void *,
               Arguments... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
    const int32_t status = emulation::check_shared(reinterpret_cast<const void *>(kernel), dynamic_shared);
    if (status != 0) return status;
    return emulation::run(grid, block, dynamic_shared, [=] { kernel(static_cast<Parameters>(arguments)...); });
}

template <typename... Parameters>
int32_t prepare(void (*kernel)(Parameters...), size_t dynamic_shared = 0) {
    return emulation::allow_shared(reinterpret_cast<const void *>(kernel), dynamic_shared);
}

}  // namespace quire
