// Decoding over a bfloat16 cache; a file of its own so that kernels compile side by side.
#include "decode.cuh"

namespace quire {

int32_t decode_bf16(void *stream, const AttentionCall &call) { return decode_any<__nv_bfloat16>(stream, call); }
int32_t prepare_decode_bf16() { return prepare_decode<__nv_bfloat16>(); }

}  // namespace quire
