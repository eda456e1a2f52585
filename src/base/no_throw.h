// Exceptions end here: what a call throws becomes an error value.
#pragma once

#include "base/result.h"

#include <exception>
#include <new>
#include <utility>

namespace kvfold {

// call() -> Result or Status. Whatever it throws becomes `memory` or `internal`.
template <class Call> auto without_throwing(Call&& call) -> decltype(call()) {
    try {
        return std::forward<Call>(call)();
    } catch (const std::bad_alloc&) {
        return tl::unexpected(Error{ErrorCode::memory, "no memory left; free some, or fold less at a time"});
    } catch (const std::exception& exception) {
        return tl::unexpected(Error{ErrorCode::internal, exception.what()});
    } catch (...) {
        return tl::unexpected(Error{ErrorCode::internal, "unknown exception"});
    }
}

} // namespace kvfold
