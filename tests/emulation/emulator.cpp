// The emulated device: fibers, barriers, shared memory. See include/emulation/machine.h.
#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <unordered_map>
#include <vector>

#include "emulation/machine.h"
#include "emulator.h"

namespace emulation {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr size_t kGuardBytes = 4096;
constexpr size_t kMostResidentBlocks = 16;
constexpr size_t kSharedBytesWithoutAsking = 48 * 1024;
constexpr int kMostPausesInVain = 200000;
constexpr size_t kFenceBytes = 1024;
constexpr size_t kSharedAlignment = 1024;  // of every array: addresses have the low bits they have in a device's shared memory
constexpr unsigned char kFence = 0xa5, kUnwritten = 0xff;

enum class State { kReady, kAtBarrier, kAtWarp, kPaused, kDone };

struct Copy {
    unsigned char *target;
    const unsigned char *source;  // null: zeros
    size_t bytes;
};

// A stack, and where it is to go on. It outlives the threads that run on it one after the other.
struct Fiber {
    unsigned char *memory = nullptr;
    jmp_buf context;
    bool started = false;
};

struct Warp {
    const char *name = nullptr;
    int arrived = 0, ended = 0;
    unsigned char operands[kLanes * kMostBytesPerLane];
};

struct Block;

struct Thread {
    Place place;
    State state = State::kReady;
    Block *block = nullptr;
    Warp *warp = nullptr;
    int lane = 0;
    Fiber *fiber = nullptr;
    std::vector<Copy> copies;               // since the last commit
    std::deque<std::vector<Copy>> groups;  // committed, oldest first
    std::vector<std::function<void()>> later;  // as with copies
    std::deque<std::vector<std::function<void()>>> later_groups;
};

struct Region {
    const char *name;
    size_t bytes;
    unsigned char *memory;  // with a fence on either side
    unsigned char *begin() const { return memory + kFenceBytes; }
    size_t reserved() const { return (bytes + kSharedAlignment - 1) / kSharedAlignment * kSharedAlignment + 2 * kFenceBytes; }
};

struct Block {
    std::vector<Thread> threads;
    std::vector<Warp> warps;
    std::vector<Region> regions;
    size_t shared_bytes = 0;
    int at_barrier = 0;
    size_t ended = 0;
    std::vector<Fiber *> fibers;

    ~Block() {
        for (const Region &region : regions) std::free(region.memory);
    }

    Region &add_region(const char *name, size_t bytes) {
        Region region = {name, bytes, nullptr};
        region.memory = static_cast<unsigned char *>(std::aligned_alloc(kSharedAlignment, region.reserved()));
        std::memset(region.memory, kFence, region.reserved());
        std::memset(region.begin(), kUnwritten, bytes);
        regions.push_back(region);
        shared_bytes += bytes;
        return regions.back();
    }
};

struct Machine {
    std::mutex one_launch;
    Thread *current = nullptr;
    jmp_buf scheduler;
    const std::function<void()> *body = nullptr;
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber *> free_fibers;
    std::string failure;
    int schedule = kForward;
    std::mt19937_64 random;
    std::unordered_map<const void *, size_t> allowed_shared;
    size_t shared_limit = 0;
};

Machine machine;

void leave() {
    if (_setjmp(machine.current->fiber->context) == 0) _longjmp(machine.scheduler, 1);
}

void end_thread() {
    Thread &thread = *machine.current;
    thread.state = State::kDone;
    ++thread.warp->ended;
    ++thread.block->ended;
    if (thread.warp->arrived > 0) {
        fail(std::string("a thread has ended while other lanes of its warp wait at ") + thread.warp->name);
    }
    if (thread.block->at_barrier > 0) fail("a thread has ended while others wait at a barrier of the block");
}

// What runs on a stack: one thread after the other, for ever.
void fiber_main() {
    for (;;) {
        (*machine.body)();
        end_thread();
        leave();
    }
}

void resume(Thread &thread) {
    machine.current = &thread;
    Fiber &fiber = *thread.fiber;
    if (_setjmp(machine.scheduler) != 0) return;
    if (fiber.started) _longjmp(fiber.context, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.memory + kGuardBytes;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
}

Fiber *take_fiber() {
    if (machine.free_fibers.empty()) {
        auto fiber = std::make_unique<Fiber>();
        void *memory = mmap(nullptr, kStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (memory == MAP_FAILED) std::abort();
        mprotect(memory, kGuardBytes, PROT_NONE);
        fiber->memory = static_cast<unsigned char *>(memory);
        machine.free_fibers.push_back(fiber.get());
        machine.fibers.push_back(std::move(fiber));
    }
    Fiber *fiber = machine.free_fibers.back();
    machine.free_fibers.pop_back();
    return fiber;
}

std::vector<size_t> in_order(size_t count) {
    std::vector<size_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    if (machine.schedule == kReverse) std::reverse(order.begin(), order.end());
    if (machine.schedule == kShuffled) std::shuffle(order.begin(), order.end(), machine.random);
    return order;
}

std::unique_ptr<Block> make_block(size_t index, dim3 grid, dim3 size, size_t dynamic_shared) {
    auto block = std::make_unique<Block>();
    const size_t count = static_cast<size_t>(size.x) * size.y * size.z;
    block->threads.resize(count);
    block->warps.resize(count / kLanes);
    block->add_region("dynamic", dynamic_shared);
    uint3 at;
    at.x = static_cast<unsigned>(index % grid.x);
    at.y = static_cast<unsigned>(index / grid.x % grid.y);
    at.z = static_cast<unsigned>(index / grid.x / grid.y);
    for (size_t i = 0; i < count; ++i) {
        Thread &thread = block->threads[i];
        thread.place.block = at;
        thread.place.block_size = size;
        thread.place.grid_size = grid;
        thread.place.thread.x = static_cast<unsigned>(i % size.x);
        thread.place.thread.y = static_cast<unsigned>(i / size.x % size.y);
        thread.place.thread.z = static_cast<unsigned>(i / size.x / size.y);
        thread.block = block.get();
        thread.warp = &block->warps[i / kLanes];
        thread.lane = static_cast<int>(i % kLanes);
        thread.fiber = take_fiber();
        block->fibers.push_back(thread.fiber);
    }
    return block;
}

// Runs a block until it has ended, fails, or waits for other blocks.
void run_block(Block &block) {
    for (bool ran = true; ran && machine.failure.empty();) {
        ran = false;
        for (const size_t index : in_order(block.threads.size())) {
            if (block.threads[index].state != State::kReady) continue;
            ran = true;
            resume(block.threads[index]);
            if (!machine.failure.empty()) return;
        }
    }
}

void check_fences(const Block &block) {
    for (const Region &region : block.regions) {
        const unsigned char *end = region.memory + region.reserved();
        const auto whole = [](unsigned char byte) { return byte == kFence; };
        if (!std::all_of(region.memory, region.memory + kFenceBytes, whole) ||
            !std::all_of(static_cast<const unsigned char *>(region.begin() + region.bytes), end, whole)) {
            machine.failure = std::string("written beyond the bounds of shared memory ") + region.name;
        }
    }
}

// What keeps a block from going on, or empty if it only waits for other blocks.
std::string deadlock_of(const Block &block) {
    size_t barrier = 0, warp = 0, paused = 0;
    const char *name = "";
    for (const Thread &thread : block.threads) {
        barrier += thread.state == State::kAtBarrier;
        paused += thread.state == State::kPaused;
        if (thread.state == State::kAtWarp) {
            ++warp;
            name = thread.warp->name;
        }
    }
    if (paused > 0) return "";
    return "deadlock: " + std::to_string(barrier) + " threads wait at a barrier of the block, " + std::to_string(warp) +
           " for other lanes (" + name + "), " + std::to_string(block.ended) + " have ended";
}

void run_grid(dim3 grid, dim3 size, size_t dynamic_shared) {
    const size_t count = static_cast<size_t>(grid.x) * grid.y * grid.z;
    std::vector<size_t> order = in_order(count);
    std::deque<std::unique_ptr<Block>> resident;
    size_t next = 0;
    int pauses = 0;
    while (machine.failure.empty() && (next < count || !resident.empty())) {
        // A block is brought in only when those there wait: most kernels never need two at a time.
        if (resident.empty() || (pauses > 0 && resident.size() < kMostResidentBlocks && next < count)) {
            resident.push_front(make_block(order[next++], grid, size, dynamic_shared));
        }
        Block &block = *resident.front();
        run_block(block);
        if (!machine.failure.empty()) break;
        if (block.ended == block.threads.size()) {
            check_fences(block);
            for (Fiber *fiber : block.fibers) machine.free_fibers.push_back(fiber);
            resident.pop_front();
            pauses = resident.empty() ? 0 : 1;
            continue;
        }
        machine.failure = deadlock_of(block);
        if (++pauses > kMostPausesInVain) machine.failure = "blocks wait for each other without end";
        for (Thread &thread : block.threads) {
            if (thread.state == State::kPaused) thread.state = State::kReady;
        }
        resident.push_back(std::move(resident.front()));
        resident.pop_front();
    }
    if (machine.failure.empty()) return;
    for (const auto &block : resident) {
        for (Fiber *fiber : block->fibers) {
            fiber->started = false;  // what was on its stack is given up
            machine.free_fibers.push_back(fiber);
        }
    }
}

void finish(const std::vector<Copy> &copies) {
    for (const Copy &copy : copies) {
        if (copy.source == nullptr) {
            std::memset(copy.target, 0, copy.bytes);
        } else {
            std::memcpy(copy.target, copy.source, copy.bytes);
        }
    }
}

}  // namespace

const Place &place() { return machine.current->place; }

void fail(const std::string &message) {
    const Place &at = machine.current->place;
    machine.failure = message + " (block " + std::to_string(at.block.x) + ", " + std::to_string(at.block.y) + ", " +
                      std::to_string(at.block.z) + ", thread " + std::to_string(at.thread.x) + ")";
    _longjmp(machine.scheduler, 1);
}

void wait_for_block() {
    Block &block = *machine.current->block;
    if (block.ended > 0) fail("a barrier of the block after some of its threads have ended");
    if (++block.at_barrier == static_cast<int>(block.threads.size())) {
        block.at_barrier = 0;
        for (Thread &thread : block.threads) thread.state = State::kReady;
        return;
    }
    machine.current->state = State::kAtBarrier;
    leave();
}

void warp_together(const char *name, void *operand, size_t bytes, WarpFunction compute, const void *extra) {
    Thread &thread = *machine.current;
    Warp &warp = *thread.warp;
    if (warp.ended > 0) fail(std::string(name) + " after some lanes of the warp have ended");
    if (warp.arrived > 0 && std::strcmp(warp.name, name) != 0) {
        fail(std::string("lanes of one warp diverge: at ") + warp.name + " and at " + name);
    }
    warp.name = name;
    unsigned char *own = warp.operands + thread.lane * kMostBytesPerLane;
    std::memcpy(own, operand, bytes);
    if (++warp.arrived == kLanes) {
        compute(warp.operands, extra);
        warp.arrived = 0;
        Thread *first = &thread - thread.lane;
        for (int lane = 0; lane < kLanes; ++lane) first[lane].state = State::kReady;
    } else {
        thread.state = State::kAtWarp;
        leave();
    }
    std::memcpy(operand, own, bytes);
}

void pause_for_other_blocks() {
    machine.current->state = State::kPaused;
    leave();
}

void *shared_memory(const char *name, size_t bytes) {
    Block &block = *machine.current->block;
    for (Region &region : block.regions) {
        if (region.name == name && region.bytes == bytes) return region.begin();
    }
    const Region &region = block.add_region(name, bytes);
    if (block.shared_bytes > machine.shared_limit) fail("more shared memory than a block can have");
    return region.begin();
}

void *dynamic_shared_memory() { return machine.current->block->regions.front().begin(); }
size_t dynamic_shared_bytes() { return machine.current->block->regions.front().bytes; }

bool is_shared(const void *address, size_t bytes) {
    const auto *begin = static_cast<const unsigned char *>(address);
    const auto &regions = machine.current->block->regions;
    return std::any_of(regions.begin(), regions.end(), [&](const Region &region) {
        return begin >= region.begin() && begin + bytes <= region.begin() + region.bytes;
    });
}

void begin_copy(void *shared, const void *global, size_t bytes, bool wanted) {
    std::memset(shared, kUnwritten, bytes);
    machine.current->copies.push_back(
        {static_cast<unsigned char *>(shared), wanted ? static_cast<const unsigned char *>(global) : nullptr, bytes});
}

void commit_copies() {
    Thread &thread = *machine.current;
    thread.groups.push_back(std::move(thread.copies));
    thread.copies.clear();
}

void wait_for_copies(int pending_groups) {
    auto &groups = machine.current->groups;
    while (groups.size() > static_cast<size_t>(pending_groups)) {
        finish(groups.front());
        groups.pop_front();
    }
}

void begin_later(std::function<void()> work) { machine.current->later.push_back(std::move(work)); }

void commit_later() {
    Thread &thread = *machine.current;
    thread.later_groups.push_back(std::move(thread.later));
    thread.later.clear();
}

void wait_for_later(int pending_groups) {
    auto &groups = machine.current->later_groups;
    while (groups.size() > static_cast<size_t>(pending_groups)) {
        for (const auto &work : groups.front()) work();
        groups.pop_front();
    }
}

int32_t run(dim3 grid, dim3 block, size_t dynamic_shared, const std::function<void()> &thread) {
    const std::lock_guard<std::mutex> lock(machine.one_launch);
    const size_t threads = static_cast<size_t>(block.x) * block.y * block.z;
    machine.failure.clear();
    if (threads == 0 || threads > 1024 || threads % kLanes != 0) {
        machine.failure = "a block of " + std::to_string(threads) + " threads: must be a multiple of 32 up to 1024";
        return kLaunchFailed;
    }
    if (grid.y > 65535 || grid.z > 65535) {
        machine.failure = "a grid of more than 65535 blocks in y or z";
        return kLaunchFailed;
    }
    machine.body = &thread;
    run_grid(grid, block, dynamic_shared);
    machine.current = nullptr;
    return machine.failure.empty() ? 0 : kLaunchFailed;
}

int32_t allow_shared(const void *kernel, size_t bytes) {
    if (bytes > machine.shared_limit) {
        machine.failure = std::to_string(bytes) + " bytes of dynamic shared memory, more than a block can have";
        return kLaunchFailed;
    }
    machine.allowed_shared[kernel] = bytes;
    return 0;
}

int32_t check_shared(const void *kernel, size_t bytes) {
    const auto allowed = machine.allowed_shared.find(kernel);
    if (allowed == machine.allowed_shared.end()) {
        machine.failure = "a kernel that no `prepare` has loaded";
        return kLaunchFailed;
    }
    if (bytes <= std::max(allowed->second, kSharedBytesWithoutAsking)) return 0;
    machine.failure = std::to_string(bytes) + " bytes of dynamic shared memory, more than the kernel is prepared for";
    return kLaunchFailed;
}

const char *last_failure() { return machine.failure.c_str(); }

void set_shared_limit(size_t bytes) { machine.shared_limit = bytes; }

void set_schedule(int schedule, uint64_t seed) {
    machine.schedule = schedule;
    machine.random.seed(seed);
}

}  // namespace emulation
