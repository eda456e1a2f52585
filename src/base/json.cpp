#include "base/json.h"

namespace kvfold {

namespace {

template <class AnyJson> std::string written(const AnyJson& value, int indent, bool as_ascii) {
    return value.dump(indent, ' ', as_ascii, AnyJson::error_handler_t::replace);
}

} // namespace

Json parse_json(std::string_view text) {
    return Json::parse(text, /*callback=*/nullptr, /*allow_exceptions=*/false);
}

std::string to_text(const Json& value) { return written(value, /*indent=*/-1, /*as_ascii=*/false); }

std::string to_text(const OrderedJson& value, int indent) {
    return written(value, indent, /*as_ascii=*/false);
}

std::string to_ascii(const OrderedJson& value) { return written(value, /*indent=*/-1, /*as_ascii=*/true); }

std::string printable_json(const Json& value) {
    return value.is_structured() ? kvfold::format("an {}", value.type_name()) : to_text(value);
}

Status check_json(const Limit& limit, const Json& value) {
    const bool is_number = limit.is_whole ? value.is_number_integer() : value.is_number();
    if (is_number) return check(limit, value.get<double>());
    return out_of_range(limit, printable_json(value));
}

} // namespace kvfold
