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

} // namespace kvfold
