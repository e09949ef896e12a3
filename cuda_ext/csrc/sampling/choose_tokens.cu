// One token for each row: the likeliest, or one drawn from what the cuts keep, as engine/sampling/draw.py defines it; and
// what is to be reported of it. One block per row.
#include "../common/launch.cuh"
#include "../common/memory.cuh"
#include "exchange.cuh"
#include "row.cuh"
#include "selection.cuh"
#include "weights.cuh"

namespace quire::sampling {
namespace {

constexpr double kLeastLogprob = -9999.0;

// engine/sampling/random.py: the output function of SplitMix64.
__device__ __forceinline__ uint64_t mix(uint64_t z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

// The row's random number in [0, 1), in units of 2^-64; a multiple of 2^-53.
__device__ __forceinline__ uint64_t uniform_of(const quire_cuda_sampling_row &row) {
    constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;
    uint64_t hash = mix(row.seed);
    hash = mix(hash + (static_cast<uint64_t>(row.choice) + 1) * kGolden);
    hash = mix(hash + (static_cast<uint64_t>(row.position) + 1) * kGolden);
    return hash >> 11 << 11;
}

// ceil(mass * fraction / 2^64)
__device__ __forceinline__ Mass share_of(Mass mass, uint64_t fraction) {
    return __umul64hi(mass, fraction) + (mass * fraction != 0 ? 1 : 0);
}

// The mass of the shortest beginning of the order that reaches an aim.
__device__ __forceinline__ Mass mass_up_to(const Board &board, Aim aim) {
    const Place place = find_place(board, aim);
    const Mass weight = mass_of(place.weight);
    uint32_t taken = place.equals;
    if (aim.by == Aim::kCount) taken = static_cast<uint32_t>(aim.target) - place.before.count;
    if (aim.by == Aim::kMass) taken = static_cast<uint32_t>((aim.target - place.before.mass + weight - 1) / weight);
    return place.before.mass + taken * weight;
}

// The mass of the tokens that top-k, top-p and min-p keep.
__device__ __forceinline__ Mass kept_mass(const Board &board, const quire_cuda_sampling_row &row) {
    Mass kept = board.bins.masses[kBins - 1];
    if (row.top_k > 0 && static_cast<uint32_t>(row.top_k) < board.bins.counts[kBins - 1]) {
        kept = mass_up_to(board, {Aim::kCount, static_cast<Mass>(row.top_k)});
    }
    if (row.top_p != 0) kept = mass_up_to(board, {Aim::kMass, share_of(kept, row.top_p)});
    const uint32_t least = __float_as_uint(row.min_p);
    if (least > static_cast<uint32_t>(kFirstBin) << kRestBits) {
        kept = min(kept, mass_up_to(board, {Aim::kWeight, least}));
    }
    return kept;
}

// Takes the row's bins into shared memory, leaves zeros behind, and adds up.
__device__ __forceinline__ void take_bins(const SamplingCall &call, int row, const Board &board) {
    const int64_t first = static_cast<int64_t>(row) * kBins;
    for (int bin = threadIdx.x; bin < kBins; bin += kChooseThreads) {
        board.bins.masses[kBins - 1 - bin] = call.sampler.bin_masses[first + bin];
        board.bins.counts[kBins - 1 - bin] = call.sampler.bin_counts[first + bin];
        call.sampler.bin_masses[first + bin] = 0;
        call.sampler.bin_counts[first + bin] = 0;
    }
    block_sync();
    add_up(board.bins, {0, 0}, [&](int i) { return Amount{board.bins.masses[i], board.bins.counts[i]}; });
}

__device__ __forceinline__ int draw(const SamplingCall &call, const quire_cuda_sampling_row &row, bool broken) {
    QUIRE_SHARED(Mass, bin_masses, kBins);
    QUIRE_SHARED(uint32_t, bin_counts, kBins);
    QUIRE_SHARED(Mass, digit_masses, kMostDigits);
    QUIRE_SHARED(uint32_t, digit_counts, kMostDigits);
    QUIRE_SHARED(uint32_t, lows, kMostDigits);
    QUIRE_SHARED(uint32_t, segments, kMostChunks);
    QUIRE_SHARED(int, found, 1);
    Board board;
    board.bins = {bin_masses, bin_counts, kBins};
    board.digits = {digit_masses, digit_counts, 0};
    board.lows = lows;
    board.segments = segments;
    board.found = found;
    board.entries = chunk_part(call, call.sampler.scratch, blockIdx.x, 0, kChunk);
    board.starts = chunk_part(call, call.sampler.starts, blockIdx.x, 0, kBins + 1);
    board.chunks = call.chunks;
    take_bins(call, blockIdx.x, board);
    if (broken) return 0;
    const Mass target = __umul64hi(uniform_of(row), kept_mass(board, row)) + 1;
    const Place place = find_place(board, {Aim::kMass, target});
    const Mass weight = mass_of(place.weight);
    return find_token(board, place.weight, static_cast<uint32_t>((target - place.before.mass + weight - 1) / weight));
}

// Log-probabilities of the model's own logits: of the chosen token, and the likeliest ones merged from those of the chunks.
__device__ __forceinline__ void report(const SamplingCall &call, const RowState &state, int token, int wanted) {
    quire_cuda_sampled *record = call.records + blockIdx.x;
    const double largest = logit_of(state.raw_best);
    const double log_sum = log(static_cast<double>(state.raw_mass)) + kUnitExponent * 0.69314718055994530942;
    const auto logprob = [&](float logit) {
        return fmax(static_cast<double>(logit) - largest - log_sum, kLeastLogprob);
    };
    if (threadIdx.x == 0) record->logprob = logprob(raw_logits(call, blockIdx.x)[token]);
    const bool has_chunk = static_cast<int>(threadIdx.x) < call.chunks;
    const uint64_t *leaders =
        chunk_part(call, call.sampler.leaders, blockIdx.x, has_chunk ? threadIdx.x : 0, QUIRE_CUDA_SAMPLING_TOP);
    int taken = 0;
    for (int number = 0; number < wanted; ++number) {
        const Mass own = has_chunk && taken < wanted ? leaders[taken] : 0;
        const Mass best = block_max<kChooseThreads>(own);
        if (own == best) ++taken;
        if (threadIdx.x != 0) continue;
        record->top_tokens[number] = best == 0 ? -1 : token_of(best);
        record->top_logprobs[number] = best == 0 ? 0.0 : logprob(logit_of(best));
    }
}

// One more occurrence of the chosen token.
__device__ __forceinline__ void count_token(const SamplingCall &call, int slot, int token) {
    uint16_t *entry = call.sampler.counts + static_cast<int64_t>(slot) * call.sampler.vocab_size + token;
    if ((*entry & kOccurrences) < kOccurrences) *entry = static_cast<uint16_t>(*entry + 1);
}

__global__ void __launch_bounds__(kChooseThreads, 1) choose(SamplingCall call) {
    const quire_cuda_sampling_row row = call.rows[blockIdx.x];
    if (row.kind == kUnusedRow) return;
    const RowState state = *state_of(call, blockIdx.x);
    block_sync();
    if (threadIdx.x == 0) *state_of(call, blockIdx.x) = RowState{0, 0, 0, 0, 0};

    const Mass best = has_changes(row) ? state.best : state.raw_best;
    const bool nothing_left = logit_of(best) == -INFINITY || logit_of(state.raw_best) == -INFINITY;
    const int broken = state.broken != 0 ? kNotFinite : nothing_left ? kNothingLeft : 0;
    int token = broken != 0 ? 0 : token_of(best);
    if (row.kind == kDrawnRow) token = draw(call, row, broken != 0);
    if (threadIdx.x == 0) {
        call.tokens[blockIdx.x] = token;
        call.records[blockIdx.x].token = token;
        call.records[blockIdx.x].broken = broken;
        if (row.slot >= 0 && broken == 0) count_token(call, row.slot, token);
    }
    if (row.logprobs >= 0 && broken == 0) report(call, state, token, row.logprobs);
}

}  // namespace

int32_t prepare_choose_tokens() { return prepare(choose); }

int32_t choose_tokens(void *stream, const SamplingCall &call, int rows) {
    return launch(choose, dim3(rows), dim3(kChooseThreads), 0, stream, call);
}

}  // namespace quire::sampling
