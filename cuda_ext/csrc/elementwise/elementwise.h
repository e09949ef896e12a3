// What each file of this folder has to make ready (quire_cuda_init).
#pragma once

#include <cstdint>

namespace quire {

int32_t prepare_gather();
int32_t prepare_norm();
int32_t prepare_elementwise();
int32_t prepare_rotary();
int32_t prepare_kv_cache();

}  // namespace quire
