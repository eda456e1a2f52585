// JSON, as kvfold's processes exchange it and as its users get it. What takes long to compile of the library
// is in json.cpp.
#pragma once

#include "base/limits.h"

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>

namespace kvfold {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json; // keys in the order they are set

Json parse_json(std::string_view text); // is_discarded(), if it is none

// On one line, or indented by so many blanks. Bytes that are not UTF-8 become U+FFFD.
std::string to_text(const Json& value);
std::string to_text(const OrderedJson& value, int indent = -1);
std::string to_ascii(const OrderedJson& value); // with \u for what is not

// On one line; lists and objects by their kind alone, for writing out what is nested deep takes a deep stack.
std::string printable_json(const Json& value);

// The value, which may be no number at all, is in its range.
Status check_json(const Limit& limit, const Json& value);

} // namespace kvfold
