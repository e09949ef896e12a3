// Attention over a float32 cache; a file of its own so that the three compile side by side.
#include "decode.cuh"

namespace quire {

int32_t attend_f32(void *stream, const AttentionCall &call) { return attend<float>(stream, call); }
int32_t prepare_attend_f32() { return prepare_attend<float>(); }

}  // namespace quire
