// Attention over a float16 cache; a file of its own so that the three compile side by side.
#include "decode.cuh"

namespace quire {

int32_t attend_f16(void *stream, const AttentionCall &call) { return attend<__half>(stream, call); }
int32_t prepare_attend_f16() { return prepare_attend<__half>(); }

}  // namespace quire
