// What a caller keeps between calls: threads, the kernels of one instruction set, and scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include "kernels.h"
#include "thread_pool.h"

namespace quire {

// Cache-line aligned memory that only ever grows. Growing loses the contents.
template <class Item> class Buffer {
  public:
    // Throws std::bad_alloc.
    Item *reserve(int64_t count) {
        if (count > capacity_) {
            memory_.reset();
            capacity_ = 0;
            const size_t bytes = (static_cast<size_t>(count) * sizeof(Item) + 63) / 64 * 64;
            memory_.reset(static_cast<Item *>(std::aligned_alloc(64, bytes)));
            if (memory_ == nullptr) throw std::bad_alloc();
            capacity_ = count;
        }
        return memory_.get();
    }
    Item *data() const { return memory_.get(); }
    int64_t bytes() const { return capacity_ * static_cast<int64_t>(sizeof(Item)); }

  private:
    struct Free {
        void operator()(void *memory) const { std::free(memory); }
    };
    std::unique_ptr<Item, Free> memory_;
    int64_t capacity_ = 0;
};

}  // namespace quire

struct quire_context {
    quire_context(int threads, const quire::Kernels &kernels, int32_t isa);

    const quire::Kernels &kernels;
    const int32_t isa;
    std::mutex mutex;  // held for the whole of every op
    quire::ThreadPool pool;
    std::vector<quire::Buffer<float>> thread_scratch;  // one per thread
    quire::Buffer<float> inputs;                       // activations in stored order
    quire::Buffer<quire::QueryTile> query_tiles;

    // Throws std::bad_alloc.
    void reserve_thread_scratch(int64_t floats);
};
