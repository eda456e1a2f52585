// POST /compact: what is checked, what is waited for, what ends the waiting.
#include "admin/fake_control.h"

#include <future>
#include <thread>

namespace kvfold::admin::testing {
namespace {

using namespace std::chrono_literals;

const Json kResult = valid_json(R"({"success":true,"method":"self_study","compacted_tokens":450,
    "original_tokens":1800,"compression_ratio":4.0,"compaction_time_ms":5200})");

class CompactTest : public AdminTest {
  protected:
    void SetUp() override { control.on("compact", Json{{"job", 7}}); }

    void job_never_ends() { control.on("job", Json{{"done", false}}); }

    // True when it holds within ten seconds.
    template <class Condition> static bool soon(Condition condition) {
        const auto end = std::chrono::steady_clock::now() + 10s;
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end) return false;
            std::this_thread::sleep_for(5ms);
        }
        return true;
    }
};

TEST_F(CompactTest, TheRequestIsPassedOnAndTheResultAwaited) {
    std::atomic<int> questions = 0;
    control.on("job", [&](const Json& request) -> Result<Json> {
        EXPECT_EQ(request, Json({{"op", "job"}, {"job", 7}}));
        if (++questions < 3) return Json{{"done", false}};
        return Json{{"done", true}, {"result", kResult}};
    });
    start();
    EXPECT_EQ(json_of(post("/compact", R"({"id_slot":3,"method":"self_study","ratio":4.0})"), 200), kResult);
    EXPECT_EQ(questions, 3);
    ASSERT_EQ(control.asked("compact").size(), 1u);
    EXPECT_EQ(control.asked("compact")[0],
              valid_json(R"({"op":"compact","id_slot":3,"method":"self_study","ratio":4.0})"));
}

TEST_F(CompactTest, TheJobIsAskedOfTheProcessThatHasIt) {
    control.on("compact", Json{{"job", 7}, {"process", 9}});
    control.on("job", Json{{"done", true}, {"result", kResult}});
    start();
    for (const char* body : {R"({"id_slot":3,"process":9})", R"({"id_slot":3})"}) {
        EXPECT_EQ(json_of(post("/compact", body), 200), kResult);
        EXPECT_EQ(control.asked("job").back(), Json({{"op", "job"}, {"job", 7}, {"process", 9}}));
    }
    EXPECT_EQ(control.asked("compact")[0], valid_json(R"({"op":"compact","id_slot":3,"process":9})"));
    EXPECT_EQ(control.asked("compact")[1], valid_json(R"({"op":"compact","id_slot":3})"));
}

TEST_F(CompactTest, MethodAndRatioMayBeLeftOut) {
    control.on("job", Json{{"done", true}, {"result", kResult}});
    start();
    json_of(post("/compact", R"({"id_slot":0})"), 200);
    EXPECT_EQ(control.asked("compact")[0], valid_json(R"({"op":"compact","id_slot":0})"));
    json_of(post("/compact", R"({"id_slot":0,"ratio":1})"), 200); // the smallest ratio
    json_of(client().Post("/compact", R"({"id_slot":0})", "application/x-www-form-urlencoded"),
            200); // curl -d
}

TEST_F(CompactTest, FieldsAreChecked) {
    start();
    const std::vector<std::pair<const char*, const char*>> wrong = {
        {"", "not JSON"},
        {R"({"id_slot":0)", "not JSON"},
        {"[0]", "not a JSON object"},
        {"{}", "id_slot is missing"},
        {R"({"id_slot":-1})", "id_slot must be"},
        {R"({"id_slot":0.5})", "id_slot must be"},
        {R"({"id_slot":"0"})", "id_slot must be"},
        {R"({"id_slot":4294967296})", "id_slot must be"},
        {R"({"id_slot":0,"ratio":0.99})", "ratio is 0.99; give"},
        {R"({"id_slot":0,"ratio":"4"})", R"(ratio is "4"; give)"},
        {R"({"id_slot":0,"ratio":null})", "ratio is null; give"},
        {R"({"id_slot":0,"ratio":1e999})", "not JSON"},
        {R"({"id_slot":0,"method":1})", "method must be"},
        {R"({"id_slot":0,"methods":"refine"})",
         "no field 'methods'; there are id_slot, method, ratio, process"},
        {R"({"id_slot":0,"process":0})", "process must be the number of a process"},
        {R"({"id_slot":0,"process":1.5})", "process must be"},
        {R"({"id_slot":0,"process":null})", "process must be"},
        {R"({"id_slot":0,"process":-9223372036854775808})", "process must be"},
        {R"({"id_slot":0,"process":18446744073709551615})", "process must be"},
        {R"({"id_slot":0,"op":"policy"})", "no field 'op'"},
        {R"({"a\nb\u001b":0})", "no field 'a\\x0ab\\x1b'"},
    };
    for (const auto& [body, words] : wrong) {
        const std::string message = error_of(post("/compact", body), 400);
        EXPECT_TRUE(contains(message, words)) << body << ": " << message;
    }
    EXPECT_TRUE(control.asked("compact").empty());
}

TEST_F(CompactTest, AnswersOfTheOtherSideKeepTheirCodes) {
    start();
    for (const int code : {400, 404, 409, 503}) {
        control.on("compact", Json{{"error", {{"code", code}, {"message", "because"}}}});
        EXPECT_EQ(error_of(post("/compact", R"({"id_slot":0})"), code), "because");
    }
    for (const Json& code : {Json(200), Json(1e300), Json("404"), Json(nullptr)}) { // no HTTP error
        control.on("compact", Json{{"error", {{"code", code}, {"message", "because"}}}});
        EXPECT_EQ(error_of(post("/compact", R"({"id_slot":0})"), 500), "because");
    }
    control.on("compact", [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "it has ended"); });
    EXPECT_EQ(error_of(post("/compact", R"({"id_slot":0})"), 503), "it has ended");
    control.on("compact", Json{{"number", 7}});
    EXPECT_TRUE(contains(error_of(post("/compact", R"({"id_slot":0})"), 502), "no job"));
    EXPECT_TRUE(control.asked("job").empty());
}

TEST_F(CompactTest, AJobThatFailsGivesItsError) {
    control.on("job", Json{{"done", true}, {"error", {{"code", 500}, {"message", "NaN in layer 3"}}}});
    start();
    EXPECT_EQ(error_of(post("/compact", R"({"id_slot":0})"), 500), "NaN in layer 3");
    control.on("job", Json{{"done", true}});
    EXPECT_TRUE(contains(error_of(post("/compact", R"({"id_slot":0})"), 502), "without a result"));
    control.on("job", Json{{"done", "perhaps"}}); // the wrong type: no crash
    error_of(post("/compact", R"({"id_slot":0})"), 500);
    control.on("job", [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "it has ended"); });
    EXPECT_EQ(error_of(post("/compact", R"({"id_slot":0})"), 503), "it has ended");
}

TEST_F(CompactTest, OthersAreAnsweredWhileAJobRuns) {
    std::atomic<bool> done = false;
    control.on("job", [&](const Json&) -> Result<Json> {
        return done ? Json{{"done", true}, {"result", kResult}} : Json{{"done", false}};
    });
    start();
    auto compaction = std::async(std::launch::async, [&] { return post("/compact", R"({"id_slot":0})"); });
    ASSERT_TRUE(soon([&] { return !control.asked("job").empty(); }));
    EXPECT_EQ(get("/state"), some_state());
    EXPECT_EQ(compaction.wait_for(0s), std::future_status::timeout);
    done = true;
    EXPECT_EQ(json_of(compaction.get(), 200), kResult);
}

TEST_F(CompactTest, StoppingEndsTheWait) {
    job_never_ends();
    start();
    auto compaction = std::async(std::launch::async, [&, port = server->port()] {
        return httplib::Client("127.0.0.1", port).Post("/compact", R"({"id_slot":0})", "application/json");
    });
    ASSERT_TRUE(soon([&] { return !control.asked("job").empty(); }));
    server.reset(); // a wait that goes on would hang here
    EXPECT_TRUE(contains(error_of(compaction.get(), 503), "stopping"));
}

TEST_F(CompactTest, AClientThatLeavesEndsTheWait) {
    job_never_ends();
    start();
    httplib::Client impatient = client();
    auto compaction = std::async(std::launch::async, [&] {
        return impatient.Post("/compact", R"({"id_slot":0})", "application/json");
    });
    ASSERT_TRUE(soon([&] { return !control.asked("job").empty(); }));
    impatient.stop();
    EXPECT_FALSE(compaction.get());
    // No question for ten times the period in which one is due.
    EXPECT_TRUE(soon([&] {
        const size_t before = control.asked("job").size();
        std::this_thread::sleep_for(500ms);
        return control.asked("job").size() == before;
    }));
}

TEST_F(CompactTest, AClientThatStaysIsWaitedFor) { // the twin of the one above
    job_never_ends();
    start();
    auto compaction = std::async(std::launch::async, [&] { return post("/compact", R"({"id_slot":0})"); });
    ASSERT_TRUE(soon([&] { return control.asked("job").size() > 10; }));
    control.on("job", Json{{"done", true}, {"result", kResult}});
    EXPECT_EQ(json_of(compaction.get(), 200), kResult);
}

TEST_F(CompactTest, TooManyWaitingAreTurnedAwayAndTheRestIsStillServed) {
    std::atomic<bool> done = false;
    control.on("job", [&](const Json&) -> Result<Json> {
        return done ? Json{{"done", true}, {"result", kResult}} : Json{{"done", false}};
    });
    start();
    std::vector<std::future<httplib::Result>> waiting;
    for (int i = 0; i < 8; ++i)
        waiting.push_back(
            std::async(std::launch::async, [&] { return post("/compact", R"({"id_slot":0})"); }));
    ASSERT_TRUE(soon([&] { return control.asked("compact").size() == 8; }));
    EXPECT_TRUE(contains(error_of(post("/compact", R"({"id_slot":0})"), 503), "too many"));
    EXPECT_EQ(get("/health")["status"], "ok");
    done = true;
    for (auto& one : waiting)
        EXPECT_EQ(json_of(one.get(), 200), kResult);
    json_of(post("/compact", R"({"id_slot":0})"), 200); // the places are free again
}

} // namespace
} // namespace kvfold::admin::testing
