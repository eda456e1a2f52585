// Errors as values. Every function of kvfold that can fail returns a Result; none throws on purpose.
// A message names the file, layer or field that is wrong and says what to do, on one line.
#pragma once

#include "base/format.h"

#include <tl/expected.hpp>

#include <cstdint>
#include <string>
#include <utility>

namespace kvfold {

// The numbers reach the C API (kvfold_error) and exit codes: fixed by hand, never renumbered.
enum class ErrorCode : int32_t {
    invalid_argument = 1, // the caller asked for something that makes no sense
    unsupported = 2,      // the model, cache or method cannot do this
    io = 3,               // the operating system refused a file
    corrupt = 4,          // bytes that are not what they claim to be
    cancelled = 5,        // the caller's callback asked to stop
    llama = 6,            // a call into llama.cpp failed
    numeric = 7,          // NaN or infinity where numbers are needed
    internal = 8,         // a bug in kvfold
    not_found = 9,        // what was named does not exist: a slot, a sequence
    busy = 10,            // not now: something else is at work on it
    lost = 11,            // a failed swap could not be undone: the sequence has to be computed again
    memory = 12,          // no memory left
};

struct Error {
    ErrorCode code;
    std::string message;
};

template <class T> using Result = tl::expected<T, Error>;
using Status = Result<void>;

template <class... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
    return tl::unexpected(Error{code, format_arguments(format, fmt::make_format_args(args...))});
}

} // namespace kvfold

#define KVFOLD_CONCAT_INNER(a, b) a##b
#define KVFOLD_CONCAT(a, b) KVFOLD_CONCAT_INNER(a, b)

// KVFOLD_TRY(auto x, expression);  x is the value, or the function returns the expression's error.
#define KVFOLD_TRY(declaration, ...)                                                                         \
    auto KVFOLD_CONCAT(result_, __LINE__) = (__VA_ARGS__);                                                   \
    if (!KVFOLD_CONCAT(result_, __LINE__))                                                                   \
        return tl::unexpected(std::move(KVFOLD_CONCAT(result_, __LINE__)).error());                          \
    declaration = *std::move(KVFOLD_CONCAT(result_, __LINE__))

// KVFOLD_CHECK(expression);  the same for a Status.
#define KVFOLD_CHECK(...)                                                                                    \
    do {                                                                                                     \
        if (auto kvfold_status = (__VA_ARGS__); !kvfold_status)                                              \
            return tl::unexpected(std::move(kvfold_status).error());                                         \
    } while (false)
