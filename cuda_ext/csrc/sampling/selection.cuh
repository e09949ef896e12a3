// Finding a place in a row's tokens, ordered by falling weight and rising id, without sorting them.
//
// The order is walked down from bins of weight to the first bits of the rest, to the last, to chunks, to ids: at each step
// tokens are counted, the counts are added up in order, and the step goes on in the one where the sum reaches the aim.
// Everything is whole numbers, so neither the order of threads nor that of the entries shows in the result.
#pragma once

#include "../common/memory.cuh"
#include "exchange.cuh"
#include "row.cuh"
#include "weights.cuh"

namespace quire::sampling {

constexpr int kChooseThreads = 512;
static_assert(kMostChunks <= kChooseThreads, "a thread for each chunk");

constexpr int kHighBits = 10;
constexpr int kLowBits = kRestBits - kHighBits;
constexpr int kMostDigits = kChunk;  // in one step: ids within a chunk
static_assert(kMostDigits >= 1 << kHighBits && kMostDigits >= 1 << kLowBits && kMostDigits >= kMostChunks,
              "room for the digits of every step");

// Tokens from the beginning of the order on.
struct Amount {
    Mass mass;
    uint32_t count;
};

// What is looked for: the shortest beginning of the order with so many tokens, or so much mass, or the one that ends with
// the tokens of a given weight.
struct Aim {
    enum By { kCount, kMass, kWeight } by;
    Mass target;
};

// Where it ends: among the tokens of one weight.
struct Place {
    uint32_t weight;
    Amount before;    // all tokens of larger weight
    uint32_t equals;  // tokens of this weight
};

// Amounts in an order, each with all before it.
struct Running {
    Mass *masses;
    uint32_t *counts;
    int size;
};

// The shared memory of a block that works on one row.
struct Board {
    Running bins;                // by falling weight
    Running digits;              // of the current step
    uint32_t *lows;              // beside them: sums of what is left of the rest
    uint32_t *segments;          // for each chunk, where the entries of the bin begin and end
    int *found;
    const uint32_t *entries;     // [chunks, kChunk]
    const uint16_t *starts;      // [chunks, kBins + 1]
    int chunks;
};

// Replaces amounts by the sum of all up to them. `amount_of(i)` may read what stands at i.
template <typename AmountOf>
__device__ __forceinline__ void add_up(const Running &running, Amount before, AmountOf amount_of) {
    const int per_thread = (running.size + kChooseThreads - 1) / kChooseThreads;
    const int begin = threadIdx.x * per_thread, end = min(begin + per_thread, running.size);
    Amount own = {0, 0};
    for (int i = begin; i < end; ++i) {
        const Amount amount = amount_of(i);
        own.mass += amount.mass;
        own.count += amount.count;
    }
    before.mass += sum_before<kChooseThreads>(own.mass);
    before.count += static_cast<uint32_t>(sum_before<kChooseThreads>(own.count));
    for (int i = begin; i < end; ++i) {
        const Amount amount = amount_of(i);
        before.mass += amount.mass;
        before.count += amount.count;
        running.masses[i] = before.mass;
        running.counts[i] = before.count;
    }
    block_sync();
}

// The first place at which the aim is reached; the last, if it never is.
__device__ __forceinline__ int search(const Board &board, const Running &running, Aim aim) {
    const auto reached = [&](int i) {
        return (aim.by == Aim::kCount ? running.counts[i] : running.masses[i]) >= aim.target;
    };
    if (threadIdx.x == 0) *board.found = running.size - 1;
    block_sync();
    for (int i = threadIdx.x; i < running.size; i += kChooseThreads) {
        if (reached(i) && (i == 0 || !reached(i - 1))) *board.found = i;
    }
    block_sync();
    const int found = *board.found;
    block_sync();  // the next search may begin
    return found;
}

__device__ __forceinline__ Amount amount_before(const Running &running, int index, Amount before_all) {
    return index == 0 ? before_all : Amount{running.masses[index - 1], running.counts[index - 1]};
}

// Says where the entries of a bin are.
__device__ __forceinline__ void open_bin(const Board &board, int bin) {
    if (static_cast<int>(threadIdx.x) < board.chunks) {
        const uint16_t *starts = board.starts + static_cast<int64_t>(threadIdx.x) * (kBins + 1) + bin;
        board.segments[threadIdx.x] = static_cast<uint32_t>(starts[0]) << 16 | starts[1];
    }
    block_sync();
}

// One step down: counts the digits of the bin's entries into board.digits. `digit_of(chunk, entry, &low)` is a digit's place
// in the order or -1, and `low` what is to be added up beside it; `mass_of_digit(i)` is the mass of what was counted at i.
template <typename DigitOf, typename MassOfDigit>
__device__ __forceinline__ void count_digits(const Board &board, Amount before, DigitOf digit_of,
                                             MassOfDigit mass_of_digit) {
    for (int i = threadIdx.x; i < board.digits.size; i += kChooseThreads) board.digits.counts[i] = board.lows[i] = 0;
    block_sync();
    // segments are mostly short: the threads share out the chunks, so that one load after another is rare
    const int threads_each = kChooseThreads / board.chunks;
    const int chunk = threadIdx.x / threads_each;
    if (chunk < board.chunks) {
        const uint32_t segment = board.segments[chunk], end = segment & 0xffffu;
        for (uint32_t i = (segment >> 16) + threadIdx.x % threads_each; i < end; i += threads_each) {
            uint32_t low = 0;
            const int digit = digit_of(chunk, board.entries[static_cast<int64_t>(chunk) * kChunk + i], &low);
            if (digit < 0) continue;
            atomic_add(&board.digits.counts[digit], 1u);
            if (low != 0) atomic_add(&board.lows[digit], low);  // below 2^9 for each of 2^19 tokens
        }
    }
    block_sync();
    add_up(board.digits, before, [&](int i) { return Amount{mass_of_digit(i), board.digits.counts[i]}; });
}

// Finds an aim by weight. An aim by count or mass must not be more than there is.
__device__ __forceinline__ Place find_place(Board board, Aim aim) {
    const bool given = aim.by == Aim::kWeight;
    const auto weight = static_cast<uint32_t>(aim.target);

    const int bin_index = given ? kBins - 1 - bin_of(weight) : search(board, board.bins, aim);
    const int bin = kBins - 1 - bin_index;
    Amount before = amount_before(board.bins, bin_index, {0, 0});
    open_bin(board, bin);

    constexpr uint32_t kLastHigh = (1u << kHighBits) - 1, kLastLow = (1u << kLowBits) - 1;
    board.digits.size = 1 << kHighBits;
    const auto high_of = [](uint32_t entry) { return entry >> (kLocalBits + kLowBits); };
    const auto low_of = [](uint32_t entry) { return entry >> kLocalBits & kLastLow; };
    count_digits(
        board, before,
        [&](int, uint32_t entry, uint32_t *low) {
            *low = low_of(entry);
            return static_cast<int>(kLastHigh - high_of(entry));
        },
        [&](int i) {
            const uint32_t mantissa = first_mantissa(bin) | (kLastHigh - i) << kLowBits;
            return mass_of(bin, static_cast<Mass>(board.digits.counts[i]) * mantissa + board.lows[i]);
        });
    const int high_index = given ? kLastHigh - (rest_of(weight) >> kLowBits) : search(board, board.digits, aim);
    const uint32_t high = kLastHigh - high_index;
    before = amount_before(board.digits, high_index, before);
    block_sync();  // what was just read may be overwritten

    board.digits.size = 1 << kLowBits;
    count_digits(
        board, before,
        [&](int, uint32_t entry, uint32_t *) {
            return high_of(entry) == high ? static_cast<int>(kLastLow - low_of(entry)) : -1;
        },
        [&](int i) {
            const uint32_t mantissa = first_mantissa(bin) | high << kLowBits | (kLastLow - i);
            return mass_of(bin, static_cast<Mass>(board.digits.counts[i]) * mantissa);
        });
    const int low_index = given ? kLastLow - (rest_of(weight) & kLastLow) : search(board, board.digits, aim);
    before = amount_before(board.digits, low_index, before);
    const uint32_t equals = board.digits.counts[low_index] - before.count;
    block_sync();
    const uint32_t rest = high << kLowBits | (kLastLow - low_index);
    return {static_cast<uint32_t>(bin + kFirstBin) << kRestBits | rest, before, equals};
}

// The id of the token of this weight that comes `number`th, counted from 1, among its equals. To be called right after
// find_place has found the weight: the bin is still open.
__device__ __forceinline__ int find_token(Board board, uint32_t weight, uint32_t number) {
    const Amount none = {0, 0};
    const auto no_mass = [](int) { return static_cast<Mass>(0); };
    const auto is_equal = [&](uint32_t entry) { return entry >> kLocalBits == rest_of(weight); };
    board.digits.size = board.chunks;
    count_digits(
        board, none, [&](int chunk, uint32_t entry, uint32_t *) { return is_equal(entry) ? chunk : -1; }, no_mass);
    const int chunk = search(board, board.digits, {Aim::kCount, number});
    const uint32_t before = amount_before(board.digits, chunk, none).count;
    block_sync();

    board.digits.size = kChunk;
    count_digits(
        board, none,
        [&](int of_entry, uint32_t entry, uint32_t *) {
            return of_entry == chunk && is_equal(entry) ? static_cast<int>(entry & (kChunk - 1)) : -1;
        },
        no_mass);
    return chunk * kChunk + search(board, board.digits, {Aim::kCount, number - before});
}

}  // namespace quire::sampling
