// One value, one answer: whoever asks for a ratio, a high-water mark or cells to keep hears the same,
// whichever way it comes in.
#include "base/limits.h"

#include "admin/request_body.h"
#include "base/format.h"
#include "cli/options.h"
#include "kvfold/kvfold.h"
#include "launch/settings.h"
#include "preload/control.h"
#include "support/valid_json.h"

#include <gtest/gtest.h>

namespace kvfold::testing {
namespace {

constexpr const char* kGood = "";

// What each door says to a value, kGood when it takes it.
std::string command_line(const Limit& limit, const std::string& value) {
    return cli::limit_check(limit)(value);
}

std::string body(const Limit& limit, const std::string& value) {
    return kvfold::format("{{\"{}\":{}}}", limit.name, value);
}

std::string settings(const Limit& limit, const std::string& value) {
    const auto read = launch::from_json(body(limit, value));
    if (read) return kGood;
    const std::string prefix = std::string(launch::kSettingsVariable) + ": ";
    EXPECT_TRUE(read.error().message.starts_with(prefix)) << read.error().message;
    return read.error().message.substr(prefix.size());
}

std::string http(const Limit& limit, const std::string& value) {
    const auto request = admin::policy_request(body(limit, value));
    return request ? kGood : request.error().message;
}

std::string control_channel(const Limit& limit, const std::string& value) {
    const auto policy = preload::changed({}, valid_json(body(limit, value)));
    return policy ? kGood : policy.error().message;
}

// Parameters are looked at before the context, which is missing here. It knows no high-water mark.
std::string c_api(const Limit& limit, double value) {
    kvfold_compact_params params = kvfold_compact_default_params();
    if (limit.name == "ratio") params.ratio = value;
    if (limit.name == "keep_first") params.keep_first = static_cast<int32_t>(value);
    if (limit.name == "keep_last") params.keep_last = static_cast<int32_t>(value);
    EXPECT_EQ(kvfold_sequence_compact(nullptr, 0, nullptr, 0, &params, nullptr),
              KVFOLD_ERROR_INVALID_ARGUMENT);
    const std::string message = kvfold_last_error();
    return message == "ctx is NULL" ? kGood : message;
}

struct Asked {
    const Limit& limit;
    const char* value; // as JSON and a shell write it
    bool is_good;
    bool fits_int = true; // what does not cannot be put into the C API's params
};

const Asked kTable[] = {
    {limits::ratio, "1", true},
    {limits::ratio, "7.5", true},
    {limits::ratio, "0.99", false},
    {limits::ratio, "0", false},
    {limits::ratio, "-8", false},
    {limits::high_water, "0.001", true},
    {limits::high_water, "0.999", true},
    {limits::high_water, "0", false},
    {limits::high_water, "1", false},
    {limits::high_water, "1.01", false},
    {limits::high_water, "-0.5", false},
    {limits::keep_first, "1", true},
    {limits::keep_first, "2147483647", true},
    {limits::keep_first, "2147483648", false, false},
    {limits::keep_first, "0", false},
    {limits::keep_first, "-1", false},
    {limits::keep_first, "1.5", false, false},
    {limits::keep_last, "-1", true},
    {limits::keep_last, "0", true},
    {limits::keep_last, "2147483648", false, false},
    {limits::keep_last, "-2", false},
    {limits::keep_last, "0.5", false, false},
};

TEST(Limits, AllDoorsGiveTheSameAnswerInTheSameWords) {
    for (const Asked& asked : kTable) {
        const auto& [limit, value, is_good, fits_int] = asked;
        const std::string expected =
            is_good ? kGood : kvfold::format("{} is {}; give {}", limit.name, value, limit.wanted);
        SCOPED_TRACE(kvfold::format("{} {}", limit.name, value));
        EXPECT_EQ(command_line(limit, value), expected);
        EXPECT_EQ(settings(limit, value), expected);
        EXPECT_EQ(http(limit, value), expected);
        EXPECT_EQ(control_channel(limit, value), expected);
        if (fits_int && limit.name != "high_water") {
            EXPECT_EQ(c_api(limit, std::stod(value)), expected);
        }
    }
}

TEST(Limits, WhatIsNoFiniteNumberIsRefused) {
    for (const Limit& limit : limits::all) {
        for (const auto& [text, shown] :
             {std::pair{"\"4\"", "\"4\""}, {"true", "true"}, {"null", "null"}, {"[]", "an array"}}) {
            const std::string expected = kvfold::format("{} is {}; give {}", limit.name, shown, limit.wanted);
            EXPECT_EQ(settings(limit, text), expected);
            EXPECT_EQ(http(limit, text), expected);
            EXPECT_EQ(control_channel(limit, text), expected);
        }
        for (const char* text : {"four", "4x", "nan", "inf", ""})
            EXPECT_NE(command_line(limit, text), kGood) << limit.name << " " << text;
    }
    EXPECT_NE(c_api(limits::ratio, NAN), kGood);
    EXPECT_NE(c_api(limits::ratio, INFINITY), kGood);
}

TEST(Limits, TheTableAsksForEveryLimitBothWays) {
    for (const Limit& limit : limits::all)
        for (const bool is_good : {true, false})
            EXPECT_TRUE(std::any_of(std::begin(kTable), std::end(kTable), [&](const Asked& asked) {
                return asked.limit.name == limit.name && asked.is_good == is_good;
            })) << limit.name;
}

} // namespace
} // namespace kvfold::testing
