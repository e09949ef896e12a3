// The kernels of the instruction set whose `Simd` was included before this file.
#pragma once

#include "attention.h"
#include "elementwise.h"
#include "linear.h"

namespace quire {
namespace {

constexpr Kernels kTable = {linear_block, convert_to_float, convert_from_float, rms_norm_row,
                            rotate_head,  silu_mul,         add,                attention_tile};

}  // namespace
}  // namespace quire
