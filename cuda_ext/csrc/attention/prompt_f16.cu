// Prompts over a float16 cache; a file of its own so that kernels compile side by side.
#include "prompt.cuh"

namespace quire {

int32_t attend_prompts_f16(void *stream, const AttentionCall &call) { return attend_prompts_any<__half>(stream, call); }
int32_t prepare_prompts_f16() { return prepare_prompts<__half>(); }

}  // namespace quire
