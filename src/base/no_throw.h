// Exceptions end here: what a call throws becomes an error value.
#pragma once

#include "base/result.h"

#include <exception>
#include <new>
#include <utility>

namespace kvfold {

// What was thrown, as an error. REQUIRES: a catch block.
inline Error error_of_exception() noexcept {
    try {
        try {
            throw;
        } catch (const std::bad_alloc&) {
            return {ErrorCode::memory, "no memory left; free some, or fold less at a time"};
        } catch (const std::exception& exception) {
            return {ErrorCode::internal, exception.what()};
        } catch (...) {
            return {ErrorCode::internal, "unknown exception"};
        }
    } catch (...) { // not even for the message; this one is short enough to need none
        return {ErrorCode::memory, "no memory left"};
    }
}

// call() -> Result or Status. Whatever it throws becomes `memory` or `internal`.
template <class Call> auto without_throwing(Call&& call) -> decltype(call()) {
    try {
        return std::forward<Call>(call)();
    } catch (...) {
        return tl::unexpected(error_of_exception());
    }
}

// For a callback that C code calls, which an exception must not cross: what it throws is kept and thrown
// again when that code has returned.
class KeptException {
  public:
    // call() -> T. `otherwise` when it throws.
    template <class Call, class T> T keep(Call&& call, T otherwise) noexcept {
        try {
            return std::forward<Call>(call)();
        } catch (...) {
            if (!thrown_) thrown_ = std::current_exception();
            return otherwise;
        }
    }
    void rethrow() {
        if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
    }

  private:
    std::exception_ptr thrown_;
};

} // namespace kvfold
