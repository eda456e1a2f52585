#include "launch/settings.h"

#include "base/unix_socket.h"

#include <gtest/gtest.h>

namespace kvfold::launch {
namespace {

TEST(Settings, AllGivenFieldsComeBack) {
    PreloadSettings all;
    all.virtual_factor = 4;
    all.ratio = 8.5;
    all.method = "refine";
    all.solve_on = "device";
    all.high_water = 0.75;
    all.keep_first = 4;
    all.keep_last = 0;
    all.archive = 512;
    all.archive_dir = "/var/lib/archives";
    all.log = "debug";
    all.control = "/tmp/kvfold-x/control";
    EXPECT_EQ(from_json(to_json(all)), all);
}

TEST(Settings, FieldsThatWereNotGivenStayAway) {
    EXPECT_EQ(to_json({}), R"({"log":"info","virtual":1})");
    EXPECT_EQ(from_json("{}"), PreloadSettings());
    EXPECT_EQ(from_json(R"({"ratio":2})")->ratio, 2.0);
    EXPECT_FALSE(from_json(R"({"ratio":2})")->method);
}

TEST(Settings, TheDocumentedObjectIsUnderstood) {
    const auto read =
        from_json(R"({"virtual":4,"ratio":8.0,"method":"refine","high_water":0.75,"keep_first":4,)"
                  R"("keep_last":256,"log":"warn","control":"/tmp/a/control"})");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->virtual_factor, 4);
    EXPECT_EQ(read->ratio, 8.0);
    EXPECT_EQ(read->method, "refine");
    EXPECT_EQ(read->high_water, 0.75);
    EXPECT_EQ(read->keep_first, 4);
    EXPECT_EQ(read->keep_last, 256);
    EXPECT_EQ(read->log, "warn");
    EXPECT_EQ(read->control, "/tmp/a/control");
}

TEST(Settings, EveryEdgeOfARangeIsAccepted) {
    for (const char* text :
         {R"({"virtual":1})", R"({"virtual":1024})", R"({"ratio":1})", R"({"high_water":0.001})",
          R"({"high_water":0.999})", R"({"keep_first":1})", R"({"keep_last":-1})", R"({"archive":0})",
          R"({"control":"/"})", R"({"log":"off"})", R"({"log":"error"})", R"({"log":"info"})"})
        EXPECT_TRUE(from_json(text)) << text;
}

struct Wrong {
    const char* text;
    const char* word; // of the message
};

class WrongSettings : public testing::TestWithParam<Wrong> {};

TEST_P(WrongSettings, AreAnErrorThatNamesTheField) {
    const auto read = from_json(GetParam().text);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(read.error().message.find(GetParam().word), std::string::npos) << read.error().message;
    EXPECT_EQ(read.error().message.find("KVFOLD_PRELOAD"), 0u) << read.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Each, WrongSettings,
    testing::Values(
        Wrong{"", "JSON"}, Wrong{"[]", "JSON"}, Wrong{"7", "JSON"}, Wrong{R"({"ratio":8)", "JSON"},
        Wrong{R"({"ratio":8} x)", "JSON"}, Wrong{R"({"ratoi":8})", "ratoi"},
        Wrong{R"({"virtual":0})", "virtual"}, Wrong{R"({"virtual":1025})", "virtual"},
        Wrong{R"({"virtual":2.0})", "virtual"}, Wrong{R"({"virtual":18446744073709551615})", "virtual"},
        Wrong{R"({"virtual":"4"})", "virtual"}, Wrong{R"({"virtual":null})", "virtual"},
        Wrong{R"({"ratio":0.99})", "ratio"}, Wrong{R"({"ratio":"8"})", "ratio"},
        Wrong{R"({"ratio":true})", "ratio"}, Wrong{R"({"ratio":1e999})", "JSON"},
        Wrong{R"({"solve_on":1})", "solve_on"}, Wrong{R"({"solve_on":""})", "solve_on"},
        Wrong{R"({"method":7})", "method"}, Wrong{R"({"method":""})", "method"},
        Wrong{R"({"high_water":0})", "high_water"}, Wrong{R"({"high_water":1})", "high_water"},
        Wrong{R"({"high_water":-0.5})", "high_water"}, Wrong{R"({"high_water":[]})", "high_water"},
        Wrong{R"({"keep_first":0})", "keep_first"}, Wrong{R"({"keep_first":1.5})", "keep_first"},
        Wrong{R"({"keep_first":2147483648})", "keep_first"}, Wrong{R"({"keep_last":-2})", "keep_last"},
        Wrong{R"({"keep_last":false})", "keep_last"}, Wrong{R"({"archive":-1})", "archive"},
        Wrong{R"({"archive":1.5})", "archive"}, Wrong{R"({"archive_dir":"here"})", "archive_dir"},
        Wrong{R"({"archive_dir":1})", "archive_dir"}, Wrong{R"({"log":"loud"})", "log"},
        Wrong{R"({"log":3})", "log"}, Wrong{R"({"control":5})", "control"},
        Wrong{R"({"control":"control"})", "control"}, Wrong{R"({"control_fd":5})", "control_fd"},
        Wrong{R"({"a\nb":1})", "\"a\\x0ab\""}));

TEST(WrongSettings, ASocketsPathHasALimit) {
    const auto with_path = [](size_t bytes) {
        return from_json("{\"control\":\"/" + std::string(bytes - 1, 'x') + "\"}");
    };
    EXPECT_TRUE(with_path(kLongestSocketPath));
    EXPECT_FALSE(with_path(kLongestSocketPath + 1));
}

TEST(WrongSettings, NestedDeepAreAnError) {
    constexpr size_t kDepth = 500000; // writing it out would take more stack than there is
    for (const std::string name : {"ratio", "virtual"}) {
        const auto read =
            from_json("{\"" + name + "\":" + std::string(kDepth, '[') + std::string(kDepth, ']') + "}");
        ASSERT_FALSE(read);
        EXPECT_NE(read.error().message.find(" is an array; give"), std::string::npos) << read.error().message;
    }
}

} // namespace
} // namespace kvfold::launch
