// How calls of the C API answer: error codes, and structs of a size that the caller's header knew.
#pragma once

#include "kvfold/kvfold.h"

#include "base/no_throw.h"

#include <algorithm>
#include <cstring>

namespace kvfold::capi {

// For kvfold_last_error; answers its code.
kvfold_error keep_error(Error error);

// Runs a call that returns a Status.
template <class Call> kvfold_error answer(Call&& call) {
    Status status = without_throwing(call);
    if (status) return KVFOLD_OK;
    return keep_error(std::move(status).error());
}

inline Status check_pointer(const void* pointer, const char* name) {
    if (pointer) return {};
    return fail(ErrorCode::invalid_argument, "{} is NULL", name);
}

template <class Struct> Status check_size(size_t size, size_t least, const char* name, const char* remedy) {
    if (size >= least && size % alignof(Struct) == 0) return {};
    return fail(ErrorCode::invalid_argument, "{}: struct_size {} is none of any kvfold.h; {}", name, size,
                remedy);
}

// What `size` bytes have room for; what the library does not know becomes zero.
template <class Struct> void write_struct(Struct* to, Struct from, size_t size) {
    from.struct_size = size;
    const size_t known = std::min(size, sizeof(Struct));
    std::memcpy(to, &from, known);
    std::memset(reinterpret_cast<char*>(to) + known, 0, size - known);
}

// What the caller gave, with the defaults for what its header did not have. remedy: for a wrong struct_size.
template <class Struct>
Result<Struct> read_struct(const Struct* given, Struct known, size_t least, const char* name,
                           const char* remedy) {
    KVFOLD_CHECK(check_pointer(given, name));
    const size_t size = given->struct_size;
    KVFOLD_CHECK(check_size<Struct>(size, least, name, remedy));
    std::memcpy(&known, given, std::min(size, sizeof known));
    const auto* bytes = reinterpret_cast<const unsigned char*>(given);
    const auto is_set = [](unsigned char byte) { return byte != 0; };
    if (size > sizeof known && std::any_of(bytes + sizeof known, bytes + size, is_set))
        return fail(ErrorCode::invalid_argument,
                    "{}: something is set that kvfold {} does not know; leave it, or link a newer kvfold",
                    name, kvfold_version());
    return known;
}

} // namespace kvfold::capi
