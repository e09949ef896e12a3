// Decoding over a float16 cache; a file of its own so that kernels compile side by side.
#include "decode.cuh"

namespace quire {

int32_t decode_f16(void *stream, const AttentionCall &call) { return decode_any<__half>(stream, call); }
int32_t prepare_decode_f16() { return prepare_decode<__half>(); }

}  // namespace quire
