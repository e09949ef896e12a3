// Shared memory: a pointer that knows its bounds.
#pragma once

#include "machine.h"

namespace emulation {

template <typename T>
class Shared {
public:
    Shared(void *begin, size_t count, const char *name) : begin_(static_cast<T *>(begin)), count_(count), name_(name) {}

    template <typename Index>
    T &operator[](Index index) const {
        if (static_cast<int64_t>(index) < 0 || static_cast<size_t>(index) >= count_) {
            fail("shared memory " + std::string(name_) + ": element " + std::to_string(static_cast<int64_t>(index)) +
                 " of " + std::to_string(count_));
        }
        return begin_[index];
    }

    operator T *() const { return begin_; }

private:
    T *begin_;
    size_t count_;
    const char *name_;
};

}  // namespace emulation

#define QUIRE_EMULATION_TEXT(x) #x
#define QUIRE_EMULATION_LINE(x) QUIRE_EMULATION_TEXT(x)
#define QUIRE_SHARED(type, name, count)                                                                            \
    const ::emulation::Shared<type> name(                                                                          \
        ::emulation::shared_memory(#name " of " __FILE__ ":" QUIRE_EMULATION_LINE(__LINE__), sizeof(type) * (count)), \
        (count), #name)
#define QUIRE_DYNAMIC_SHARED(type, name)                                    \
    const ::emulation::Shared<type> name(::emulation::dynamic_shared_memory(), \
                                         ::emulation::dynamic_shared_bytes() / sizeof(type), #name)
