// A fixed team of threads that runs one parallel region at a time.
//
// Between regions a worker spins for some tens of microseconds, which is cheaper than sleeping while a model's ops
// follow each other closely, and then sleeps on a condition variable. With more threads than CPUs nobody spins.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace quire {

class ThreadPool {
  public:
    // Starts threads - 1 workers. Throws std::system_error if a thread cannot be started.
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool &) = delete;
    ThreadPool &operator=(const ThreadPool &) = delete;

    int size() const { return size_; }

    // Whether this process is a fork of the one that started the workers, which a fork does not copy.
    bool forked() const;

    // Calls body(thread) once for every thread 0 .. size() - 1 and returns when all have returned.
    // The body must not throw and must not use the pool.
    template <class Body> void run(const Body &body) {
        dispatch([](const void *context, int thread) { (*static_cast<const Body *>(context))(thread); }, &body);
    }

    // Calls body(begin, end, thread) for contiguous, almost equal parts of 0 .. count - 1.
    template <class Body> void split(int64_t count, const Body &body) {
        const int64_t size = size_;
        run([&body, count, size](int thread) {
            const int64_t begin = count * thread / size;
            const int64_t end = count * (thread + 1) / size;
            if (begin < end) body(begin, end, thread);
        });
    }

    // Calls body(item, thread) for every item 0 .. count - 1, handed out one by one: for items of uneven cost.
    template <class Body> void share(int64_t count, const Body &body) {
        std::atomic<int64_t> next{0};
        run([&body, &next, count](int thread) {
            for (int64_t item; (item = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(item, thread);
        });
    }

  private:
    using Job = void (*)(const void *, int);

    void dispatch(Job job, const void *context);
    void work(int thread);
    void await_start(uint32_t seen);
    void await_finish();
    void stop() noexcept;

    const int size_;
    const bool spin_;
    const pid_t owner_;
    std::vector<std::thread> workers_;

    // Written by the caller before a region is published through `epoch_`.
    Job job_ = nullptr;
    const void *job_context_ = nullptr;
    bool stopping_ = false;

    alignas(64) std::atomic<uint32_t> epoch_{0};  // number of regions published
    alignas(64) std::atomic<int> unfinished_{0};  // workers still inside the current region
    alignas(64) std::atomic<int> sleeping_workers_{0};
    std::atomic<bool> caller_sleeps_{false};
    std::mutex mutex_;
    std::condition_variable started_;
    std::condition_variable finished_;
};

}  // namespace quire
