// Sampling's entry: three kernels, one after the other.
#include "sampling.h"

#include "../common/launch.cuh"

namespace quire {

int32_t prepare_sampling() {
    return first_error(sampling::prepare_change_logits(), sampling::prepare_survey_chunks(),
                       sampling::prepare_choose_tokens());
}

}  // namespace quire

extern "C" {

int32_t quire_cuda_sample(void *stream, const quire_cuda_sampler *sampler, const float *logits, const void *inputs,
                          int64_t rows, int32_t *tokens, quire_cuda_sampled *records) {
    const int64_t chunks = quire::blocks_for(sampler->vocab_size, quire::sampling::kChunk);
    if (chunks > quire::sampling::kMostChunks) return QUIRE_CUDA_UNSUPPORTED;
    quire::sampling::SamplingCall call = {};
    call.sampler = *sampler;
    call.logits = logits;
    call.rows = static_cast<const quire_cuda_sampling_row *>(inputs);
    call.words = static_cast<const uint32_t *>(inputs);
    call.tokens = tokens;
    call.records = records;
    call.chunks = static_cast<int>(chunks);
    const auto count = static_cast<int>(rows);
    int32_t status = quire::sampling::change_logits(stream, call, count);
    if (status == 0) status = quire::sampling::survey_chunks(stream, call, count);
    if (status == 0) status = quire::sampling::choose_tokens(stream, call, count);
    return status;
}

}
