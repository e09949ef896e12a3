// Prompts over a bfloat16 cache; a file of its own so that kernels compile side by side.
#include "prompt.cuh"

namespace quire {

int32_t attend_prompts_bf16(void *stream, const AttentionCall &call) { return attend_prompts_any<__nv_bfloat16>(stream, call); }
int32_t prepare_prompts_bf16() { return prepare_prompts<__nv_bfloat16>(); }

}  // namespace quire
