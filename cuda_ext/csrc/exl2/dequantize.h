// What dequantize.cu and activations.cu offer to the library's start.
#pragma once

#include <cstdint>

namespace quire {

int32_t prepare_exl2_decode();
int32_t prepare_exl2_gather();

}  // namespace quire
