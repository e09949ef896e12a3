// cp.async: the bytes arrive when they are waited for.
#pragma once

#include "machine.h"

namespace quire {

inline void copy_async_16(void *shared, const void *global, bool wanted = true) {
    emulation::require_aligned(shared, 16, "asynchronous copy to shared memory");
    emulation::require_aligned(global, 16, "asynchronous copy from global memory");
    if (!emulation::is_shared(shared, 16)) emulation::fail("asynchronous copy to an address outside shared memory");
    emulation::begin_copy(shared, global, 16, wanted);
}

inline void copy_async_commit() { emulation::commit_copies(); }

template <int kPending>
void copy_async_wait() {
    emulation::wait_for_copies(kPending);
}

}  // namespace quire
