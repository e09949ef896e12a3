// What lanes of a warp do together.
#pragma once

#include <cstring>

#include "machine.h"

namespace quire {
namespace emulated {

// Every lane's value, and which lane's each of them wants.
template <typename T>
struct Wanted {
    T value;
    int lane;
};

template <typename T>
void hand_round(unsigned char *operands, const void *) {
    Wanted<T> all[emulation::kLanes];
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(&all[lane], operands + lane * emulation::kMostBytesPerLane, sizeof all[lane]);
    }
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(operands + lane * emulation::kMostBytesPerLane, &all[all[lane].lane].value, sizeof(T));
    }
}

template <typename T>
T exchange(const char *name, T value, int lane) {
    static_assert(sizeof(Wanted<T>) <= emulation::kMostBytesPerLane);
    Wanted<T> wanted = {value, lane};
    emulation::warp_together(name, &wanted, sizeof wanted, hand_round<T>);
    return wanted.value;
}

inline int lane() { return static_cast<int>(threadIdx.x) % emulation::kLanes; }

inline void collect_votes(unsigned char *operands, const void *) {
    unsigned votes = 0;
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        unsigned vote;
        std::memcpy(&vote, operands + lane * emulation::kMostBytesPerLane, sizeof vote);
        votes |= (vote & 1u) << lane;
    }
    for (int lane = 0; lane < emulation::kLanes; ++lane) {
        std::memcpy(operands + lane * emulation::kMostBytesPerLane, &votes, sizeof votes);
    }
}

inline void nothing(unsigned char *, const void *) {}

}  // namespace emulated

inline void block_sync() { emulation::wait_for_block(); }

inline void warp_sync() {
    unsigned unused = 0;
    emulation::warp_together("warp_sync", &unused, sizeof unused, emulated::nothing);
}

template <typename T>
T shuffle(T value, int lane) {
    return emulated::exchange("shuffle", value, lane & (emulation::kLanes - 1));
}

template <typename T>
T shuffle_xor(T value, int mask) {
    return emulated::exchange("shuffle_xor", value, (emulated::lane() ^ mask) & (emulation::kLanes - 1));
}

template <typename T>
T shuffle_down(T value, int delta) {
    const int source = emulated::lane() + delta;
    return emulated::exchange("shuffle_down", value, source < emulation::kLanes ? source : emulated::lane());
}

template <typename T>
T shuffle_up(T value, int delta) {
    const int source = emulated::lane() - delta;
    return emulated::exchange("shuffle_up", value, source >= 0 ? source : emulated::lane());
}

inline unsigned ballot(bool predicate) {
    unsigned vote = predicate;
    emulation::warp_together("ballot", &vote, sizeof vote, emulated::collect_votes);
    return vote;
}
inline bool any(bool predicate) { return ballot(predicate) != 0; }
inline bool all(bool predicate) { return ballot(predicate) == 0xffffffffu; }

inline void spin_pause() { emulation::pause_for_other_blocks(); }

}  // namespace quire
