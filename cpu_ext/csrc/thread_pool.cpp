#include "thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <new>
#include <system_error>

#ifdef __linux__
#include <sched.h>
#endif

namespace quire {
namespace {

constexpr auto kSpinTime = std::chrono::microseconds(30);
constexpr int kPausesPerClockRead = 32;

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

template <class Condition> bool spin_until(const Condition &condition) {
    const auto deadline = std::chrono::steady_clock::now() + kSpinTime;
    do {
        for (int i = 0; i < kPausesPerClockRead; ++i) {
            if (condition()) return true;
            pause_briefly();
        }
    } while (std::chrono::steady_clock::now() < deadline);
    return false;
}

int usable_cpus() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
    return static_cast<int>(std::thread::hardware_concurrency());
}

// Signals belong to the threads of the program around us: workers are started with all of them blocked.
class BlockedSignals {
  public:
    BlockedSignals() {
        sigset_t all;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~BlockedSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    BlockedSignals(const BlockedSignals &) = delete;
    BlockedSignals &operator=(const BlockedSignals &) = delete;

  private:
    sigset_t before_;
};

}  // namespace

ThreadPool::ThreadPool(int threads) : size_(threads), spin_(threads <= usable_cpus()), owner_(getpid()) {
    const BlockedSignals blocked;
    workers_.reserve(static_cast<size_t>(threads - 1));
    try {
        for (int thread = 1; thread < threads; ++thread) workers_.emplace_back([this, thread] { work(thread); });
    } catch (const std::system_error &) {
        stop();
        throw;
    }
}

ThreadPool::~ThreadPool() { stop(); }

bool ThreadPool::forked() const { return getpid() != owner_; }

void ThreadPool::stop() noexcept {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        stopping_ = true;
        epoch_.fetch_add(1);
    }
    started_.notify_all();
    for (std::thread &worker : workers_) worker.join();
}

void ThreadPool::dispatch(Job job, const void *context) {
    if (size_ == 1 || forked()) {
        for (int thread = 0; thread < size_; ++thread) job(context, thread);
        return;
    }
    job_ = job;
    job_context_ = context;
    unfinished_.store(size_ - 1, std::memory_order_relaxed);
    // Sequentially consistent with the worker's "I sleep, is there anything new?": one of the two sees the other.
    epoch_.fetch_add(1);
    if (sleeping_workers_.load() > 0) {
        const std::lock_guard<std::mutex> lock(mutex_);
        started_.notify_all();
    }
    job(context, 0);
    await_finish();
}

void ThreadPool::await_finish() {
    const auto done = [this] { return unfinished_.load() == 0; };
    if (done() || (spin_ && spin_until(done))) return;
    std::unique_lock<std::mutex> lock(mutex_);
    caller_sleeps_.store(true);
    finished_.wait(lock, done);
    caller_sleeps_.store(false);
}

void ThreadPool::await_start(uint32_t seen) {
    const auto something_new = [this, seen] { return epoch_.load() != seen; };
    if (spin_ && spin_until(something_new)) return;
    std::unique_lock<std::mutex> lock(mutex_);
    sleeping_workers_.fetch_add(1);
    started_.wait(lock, something_new);
    sleeping_workers_.fetch_sub(1);
}

void ThreadPool::work(int thread) {
    for (uint32_t seen = 0;; ++seen) {
        await_start(seen);
        if (stopping_) return;
        job_(job_context_, thread);
        if (unfinished_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
            const std::lock_guard<std::mutex> lock(mutex_);
            finished_.notify_one();
        }
    }
}

}  // namespace quire
