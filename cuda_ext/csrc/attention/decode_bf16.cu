// Attention over a bfloat16 cache; a file of its own so that the three compile side by side.
#include "decode.cuh"

namespace quire {

int32_t attend_bf16(void *stream, const AttentionCall &call) { return attend<__nv_bfloat16>(stream, call); }
int32_t prepare_attend_bf16() { return prepare_attend<__nv_bfloat16>(); }

}  // namespace quire
