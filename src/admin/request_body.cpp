#include "admin/request_body.h"

#include "base/format.h"
#include "base/limits.h"
#include "base/printable.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

namespace kvfold::admin {
namespace {

constexpr int64_t kLargestCount = 0x7fffffff; // what the other side counts slots with
constexpr size_t kLongestName = 64;

struct Field {
    std::string_view name;
    std::string_view wanted;
    bool (*fits)(const Json&) = nullptr;
    bool required = false;
    const Limit* limit = nullptr; // instead of `wanted` and `fits`
};

constexpr Field limited(const Limit& limit) { return {.name = limit.name, .wanted = {}, .limit = &limit}; }

bool is_count(const Json& value) {
    if (value.is_number_unsigned()) return value.get<uint64_t>() <= static_cast<uint64_t>(kLargestCount);
    return value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() <= kLargestCount;
}
bool is_process(const Json& value) { return is_count(value) && value.get<int64_t>() > 0; }
bool is_name(const Json& value) {
    if (!value.is_string()) return false;
    const auto& name = value.get_ref<const std::string&>();
    return !name.empty() && name.size() <= kLongestName;
}
bool is_switch(const Json& value) { return value.is_boolean(); }

constexpr Field kRatio = limited(limits::ratio);
constexpr Field kMethod = {"method", "the name of a method", is_name};
constexpr Field kProcess = {"process", "the number of a process, as GET /processes lists them", is_process};
constexpr Field kSlot = {"id_slot", "a whole number of at least 0", is_count, /*required=*/true};
constexpr std::array kCompactFields = {kSlot, kMethod, kRatio, kProcess};
constexpr std::array kUnfoldFields = {kSlot, kProcess};
constexpr std::array kPolicyFields = {kRatio,
                                      kMethod,
                                      Field{"solve_on", "auto, cpu or device", is_name},
                                      limited(limits::high_water),
                                      limited(limits::keep_first),
                                      limited(limits::keep_last),
                                      Field{"automatic", "true or false", is_switch},
                                      kProcess};

std::string names(std::span<const Field> fields) { return joined(fields, ", ", &Field::name); }

Result<Json> checked(std::string_view body, std::span<const Field> fields) {
    Json object = parse_json(body);
    if (object.is_discarded()) return fail(ErrorCode::invalid_argument, "the body is not JSON");
    if (!object.is_object()) return fail(ErrorCode::invalid_argument, "the body is not a JSON object");
    for (const auto& [name, value] : object.items()) {
        const auto field = std::find_if(fields.begin(), fields.end(),
                                        [&name = name](const Field& one) { return one.name == name; });
        if (field == fields.end())
            return fail(ErrorCode::invalid_argument, "no field '{}'; there are {}", printable(name),
                        names(fields));
        if (field->limit) KVFOLD_CHECK(check_json(*field->limit, value));
        if (field->fits && !field->fits(value))
            return fail(ErrorCode::invalid_argument, "{} must be {}", field->name, field->wanted);
    }
    for (const Field& field : fields)
        if (field.required && !object.contains(field.name))
            return fail(ErrorCode::invalid_argument, "{} is missing: {}", field.name, field.wanted);
    return object;
}

} // namespace

Result<Json> compact_request(std::string_view body) {
    KVFOLD_TRY(Json request, checked(body, kCompactFields));
    request["op"] = "compact";
    return request;
}

Result<Json> unfold_request(std::string_view body) {
    KVFOLD_TRY(Json request, checked(body, kUnfoldFields));
    request["op"] = "unfold";
    return request;
}

Result<Json> policy_request(std::string_view body) {
    KVFOLD_TRY(Json request, checked(body, kPolicyFields));
    if (request.size() == request.count(kProcess.name))
        return fail(ErrorCode::invalid_argument, "nothing to change; give any of {}", names(kPolicyFields));
    request["op"] = "policy";
    return request;
}

Result<int> process_of(std::string_view text) {
    int number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size() || number < 1)
        return fail(ErrorCode::invalid_argument, "{} is '{}'; give {}", kProcess.name, printable(text),
                    kProcess.wanted);
    return number;
}

} // namespace kvfold::admin
