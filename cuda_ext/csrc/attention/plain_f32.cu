// Plain attention over a float32 cache; a file of its own so that the three compile side by side.
#include "plain.cuh"

namespace quire {

int32_t attend_plainly_f32(void *stream, const AttentionCall &call) { return attend_plainly<float>(stream, call); }
int32_t prepare_plain_f32() { return prepare_plain<float>(); }

}  // namespace quire
