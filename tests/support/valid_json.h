// JSON that a test wrote or waits for: a mistake in it ends the test.
#pragma once

#include "base/json.h"

#include <stdexcept>

namespace kvfold {

inline Json valid_json(std::string_view text) {
    Json value = parse_json(text);
    if (value.is_discarded()) throw std::invalid_argument("no JSON: " + std::string(text));
    return value;
}

} // namespace kvfold
