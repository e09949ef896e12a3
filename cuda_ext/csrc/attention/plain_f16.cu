// Plain attention over a float16 cache; a file of its own so that the three compile side by side.
#include "plain.cuh"

namespace quire {

int32_t attend_plainly_f16(void *stream, const AttentionCall &call) { return attend_plainly<__half>(stream, call); }
int32_t prepare_plain_f16() { return prepare_plain<__half>(); }

}  // namespace quire
