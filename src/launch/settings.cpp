#include "launch/settings.h"

#include "base/format.h"
#include "base/json.h"
#include "base/unix_socket.h"

#include <algorithm>

namespace kvfold::launch {

namespace {

tl::unexpected<Error> wrong(std::string_view field, const Json& value, std::string_view wanted) {
    return fail(ErrorCode::invalid_argument, "{}: \"{}\" is {}; give {}", kSettingsVariable, field,
                printable_json(value), wanted);
}

// Compared as doubles: every int is one, and a JSON number that does not fit an int is out of range as it is.
Status read_whole(const Json& value, std::string_view field, int least, int most, int& out) {
    const bool fits =
        value.is_number_integer() && value.get<double>() >= least && value.get<double>() <= most;
    if (!fits) return wrong(field, value, kvfold::format("a whole number from {} to {}", least, most));
    out = value.get<int>();
    return {};
}

template <class Number>
Status read_limited(const Limit& limit, const Json& value, std::optional<Number>& out) {
    if (const Status status = check_json(limit, value); !status)
        return fail(status.error().code, "{}: {}", kSettingsVariable, status.error().message);
    out = value.get<Number>();
    return {};
}

Status read_name(const Json& value, std::string_view field, std::string_view wanted,
                 std::optional<std::string>& out) {
    if (!value.is_string() || value.get_ref<const std::string&>().empty()) return wrong(field, value, wanted);
    out = value.get<std::string>();
    return {};
}

Status read_log(const Json& value, std::string& out) {
    const bool known = value.is_string() && std::find(kLogLevels.begin(), kLogLevels.end(),
                                                      value.get<std::string>()) != kLogLevels.end();
    if (!known) return wrong("log", value, kvfold::format("one of {}", joined(kLogLevels, ", ")));
    out = value.get<std::string>();
    return {};
}

Status read_control(const Json& value, std::optional<std::string>& out) {
    const bool fits = value.is_string() && value.get_ref<const std::string&>().starts_with('/') &&
                      value.get_ref<const std::string&>().size() <= kLongestSocketPath;
    if (!fits)
        return wrong("control", value,
                     kvfold::format("an absolute path of at most {} bytes", kLongestSocketPath));
    out = value.get<std::string>();
    return {};
}

Status read_folder(const Json& value, std::optional<std::string>& out) {
    if (!value.is_string() || !value.get_ref<const std::string&>().starts_with('/'))
        return wrong("archive_dir", value, "an absolute path");
    out = value.get<std::string>();
    return {};
}

Status read_field(const std::string& name, const Json& value, PreloadSettings& out) {
    if (name == "virtual") return read_whole(value, name, 1, kLargestVirtual, out.virtual_factor);
    if (name == "ratio") return read_limited(limits::ratio, value, out.ratio);
    if (name == "method") return read_name(value, name, "the name of a method", out.method);
    if (name == "solve_on") return read_name(value, name, "auto, cpu or device", out.solve_on);
    if (name == "high_water") return read_limited(limits::high_water, value, out.high_water);
    if (name == "keep_first") return read_limited(limits::keep_first, value, out.keep_first);
    if (name == "keep_last") return read_limited(limits::keep_last, value, out.keep_last);
    if (name == "archive") return read_limited(limits::archive, value, out.archive);
    if (name == "archive_dir") return read_folder(value, out.archive_dir);
    if (name == "recall") return read_limited(limits::recall, value, out.recall);
    if (name == "log") return read_log(value, out.log);
    if (name == "control") return read_control(value, out.control);
    return fail(ErrorCode::invalid_argument,
                "{}: there is no field \"{}\"; kvfold and its preload library must be of the same version",
                kSettingsVariable, printable(name));
}

template <class T> void put(Json& object, const char* name, const std::optional<T>& value) {
    if (value) object[name] = *value;
}

} // namespace

std::string to_json(const PreloadSettings& settings) {
    Json object = {{"virtual", settings.virtual_factor}, {"log", settings.log}};
    put(object, "ratio", settings.ratio);
    put(object, "method", settings.method);
    put(object, "solve_on", settings.solve_on);
    put(object, "high_water", settings.high_water);
    put(object, "keep_first", settings.keep_first);
    put(object, "keep_last", settings.keep_last);
    put(object, "archive", settings.archive);
    put(object, "archive_dir", settings.archive_dir);
    put(object, "recall", settings.recall);
    put(object, "control", settings.control);
    return to_text(object);
}

Result<PreloadSettings> from_json(std::string_view text) {
    const Json object = parse_json(text);
    if (!object.is_object())
        return fail(ErrorCode::invalid_argument, "{}: is not a JSON object; kvfold run writes it",
                    kSettingsVariable);
    PreloadSettings settings;
    for (const auto& [name, value] : object.items())
        KVFOLD_CHECK(read_field(name, value, settings));
    return settings;
}

} // namespace kvfold::launch
