#include "capi/answer.h"

namespace kvfold::capi {

namespace {

constexpr bool same(ErrorCode ours, kvfold_error theirs) { return static_cast<int>(ours) == theirs; }
static_assert(same(ErrorCode::invalid_argument, KVFOLD_ERROR_INVALID_ARGUMENT));
static_assert(same(ErrorCode::unsupported, KVFOLD_ERROR_UNSUPPORTED));
static_assert(same(ErrorCode::io, KVFOLD_ERROR_IO));
static_assert(same(ErrorCode::corrupt, KVFOLD_ERROR_CORRUPT));
static_assert(same(ErrorCode::cancelled, KVFOLD_ERROR_CANCELLED));
static_assert(same(ErrorCode::llama, KVFOLD_ERROR_LLAMA));
static_assert(same(ErrorCode::numeric, KVFOLD_ERROR_NUMERIC));
static_assert(same(ErrorCode::internal, KVFOLD_ERROR_INTERNAL));
static_assert(same(ErrorCode::not_found, KVFOLD_ERROR_NOT_FOUND));
static_assert(same(ErrorCode::busy, KVFOLD_ERROR_BUSY));
static_assert(same(ErrorCode::lost, KVFOLD_ERROR_LOST));
static_assert(same(ErrorCode::memory, KVFOLD_ERROR_MEMORY));

thread_local std::string last_error;

} // namespace

kvfold_error keep_error(Error error) {
    last_error = std::move(error.message);
    return static_cast<kvfold_error>(error.code);
}

} // namespace kvfold::capi

const char* kvfold_version(void) { return KVFOLD_VERSION; }
const char* kvfold_last_error(void) { return kvfold::capi::last_error.c_str(); }
