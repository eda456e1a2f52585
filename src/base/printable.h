// Text of others inside a message of ours.
#pragma once

#include "base/format.h"

#include <string>
#include <string_view>

namespace kvfold {

// Control characters written as \x0a: a message stays one line, and tells a terminal nothing but text.
inline std::string printable(std::string_view text) {
    std::string shown;
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7f)
            shown += kvfold::format("\\x{:02x}", byte);
        else
            shown += c;
    }
    return shown;
}

// A value of nlohmann's JSON on one line; lists and objects by their kind alone, for writing out what is
// nested deep takes a deep stack.
template <class Json> std::string printable_json(const Json& value) {
    if (value.is_structured()) return kvfold::format("an {}", value.type_name());
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

} // namespace kvfold
