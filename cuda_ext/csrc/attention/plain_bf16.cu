// Plain attention over a bfloat16 cache; a file of its own so that the three compile side by side.
#include "plain.cuh"

namespace quire {

int32_t attend_plainly_bf16(void *stream, const AttentionCall &call) { return attend_plainly<__nv_bfloat16>(stream, call); }
int32_t prepare_plain_bf16() { return prepare_plain<__nv_bfloat16>(); }

}  // namespace quire
