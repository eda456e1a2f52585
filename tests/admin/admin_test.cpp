// Paths, who may use them, and where the server listens.
#include "admin/fake_control.h"
#include "admin/request_body.h"

#include <future>
#include <thread>

namespace kvfold::admin::testing {
namespace {

TEST_F(AdminTest, StateIsAnsweredWhole) {
    start();
    EXPECT_EQ(get("/state"), some_state());
}

TEST_F(AdminTest, SequencesComeWithTheContextAndNothingElse) {
    start();
    const Json answer = get("/sequences");
    EXPECT_EQ(answer.size(), 2u);
    EXPECT_EQ(answer["sequences"], some_state()["sequences"]);
    EXPECT_EQ(answer["context"], some_state()["context"]);
}

TEST_F(AdminTest, HealthIsThatOfTheProcessThatCanBestBeAsked) {
    start();
    const auto listed = [&](const std::vector<Json>& all) {
        control.on("processes", Json{{"processes", all}});
    };
    const Json mute = {{"answers", false}, {"busy_s", 0.0}}, ready = {{"answers", true}, {"busy_s", 0.3}},
               busy = {{"answers", true}, {"busy_s", 7.5}};
    listed({ready});
    EXPECT_EQ(get("/health"), valid_json(R"({"status":"ok"})"));
    listed({busy});
    EXPECT_EQ(get("/health"), valid_json(R"({"status":"busy","busy_s":7.5})"));
    listed({mute, busy, ready}); // one is enough
    EXPECT_EQ(get("/health"), valid_json(R"({"status":"ok"})"));
    listed({mute, busy});
    EXPECT_EQ(get("/health"), valid_json(R"({"status":"busy","busy_s":7.5})"));
    listed({mute});
    EXPECT_EQ(get("/health", 503), valid_json(R"({"status":"no answer"})"));
    listed({});
    EXPECT_EQ(get("/health", 503), valid_json(R"({"status":"no answer"})"));
    control.on("processes", [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "it has ended"); });
    EXPECT_EQ(get("/health", 503), valid_json(R"({"status":"no answer"})"));
    EXPECT_TRUE(control.asked("states").empty() && control.asked("state").empty()); // they may have to wait
}

TEST_F(AdminTest, ProcessesAreListed) {
    const Json list = valid_json(R"({"processes":[{"pid":123,"program":"llama-server","model":"a"}]})");
    control.on("processes", list);
    start();
    EXPECT_EQ(get("/processes"), list);
}

TEST_F(AdminTest, QuestionsReachTheProcessThatTheyName) {
    control.on("methods", valid_json(R"({"methods":[]})"));
    start();
    for (const std::string path : {"/state", "/sequences", "/policy", "/methods"})
        for (const std::string query : {"", "?process=123"}) {
            get(path + query);
            const std::string op = path == "/methods" ? "methods" : "state";
            Json question = {{"op", op}};
            if (!query.empty()) question["process"] = 123;
            EXPECT_EQ(control.asked(op).back(), question) << path << query;
        }
}

TEST_F(AdminTest, WhatIsNoProcessIsRefused) {
    start();
    for (const std::string path : {"/state", "/sequences", "/policy", "/methods"})
        for (const std::string wrong :
             {"", "0", "-1", "x", "1x", "%201", "+1", "1.0", "2147483648", "1%0a"}) {
            const std::string message = error_of(client().Get(path + "?process=" + wrong), 400);
            EXPECT_TRUE(contains(message, "give the number of a process")) << wrong << ": " << message;
            EXPECT_FALSE(contains(message, "\n"));
        }
    EXPECT_TRUE(control.asked("state").empty());
}

TEST_F(AdminTest, AProcessThatIsNotThereIs404) {
    control.on("state", valid_json(R"({"error":{"code":404,"message":"no process 7"}})"));
    start();
    for (const char* path : {"/state?process=7", "/sequences?process=7", "/policy?process=7"})
        EXPECT_EQ(error_of(client().Get(path), 404), "no process 7") << path;
}

TEST_F(AdminTest, AnAnswerThatDoesNotComeIs503WithTheReason) {
    control.on("state",
               [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "the server has ended"); });
    control.on("states",
               [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "the server has ended"); });
    start();
    for (const char* path : {"/state", "/sequences", "/policy", "/metrics"})
        EXPECT_EQ(error_of(client().Get(path), 503), "the server has ended") << path;
}

TEST_F(AdminTest, AnAnswerThatMakesNoSenseIs502) {
    control.on("state", Json::array({1, 2}));
    start();
    EXPECT_TRUE(contains(error_of(client().Get("/state"), 502), "not an object"));
    control.on("state", valid_json(R"({"error":"text"})"));
    EXPECT_TRUE(contains(error_of(client().Get("/state"), 502), "not an object"));
}

TEST_F(AdminTest, PolicyIsReadAndChanged) {
    const Json changed = valid_json(R"({"policy":{"ratio":4.0,"automatic":false}})");
    control.on("policy", changed);
    start();
    EXPECT_EQ(get("/policy"), Json({{"policy", some_state()["policy"]}}));
    const Json all = valid_json(R"({"ratio":4.0,"method":"select","high_water":0.5,"keep_first":1,
                                     "keep_last":-1,"automatic":false})");
    EXPECT_EQ(json_of(post("/policy", to_text(all)), 200), changed);
    ASSERT_EQ(control.asked("policy").size(), 1u);
    Json request = all;
    request["op"] = "policy";
    EXPECT_EQ(control.asked("policy")[0], request);
    json_of(post("/policy", R"({"ratio":4,"process":123})"), 200);
    EXPECT_EQ(control.asked("policy")[1], valid_json(R"({"op":"policy","ratio":4,"process":123})"));
}

TEST_F(AdminTest, TheMethodsAreThoseOfWhoDoesTheWork) {
    const Json list = valid_json(R"({"methods":[{"name":"refine","advice":"when in doubt"}]})");
    control.on("methods", list);
    start();
    EXPECT_EQ(get("/methods"), list);
    control.on("methods", [](const Json&) -> Result<Json> { return fail(ErrorCode::io, "it has ended"); });
    EXPECT_EQ(error_of(client().Get("/methods"), 503), "it has ended");
}

TEST_F(AdminTest, PolicyErrorsOfTheOtherSideArePassedOn) {
    control.on("policy", valid_json(R"({"error":{"code":409,"message":"busy just now"}})"));
    start();
    EXPECT_EQ(error_of(post("/policy", R"({"ratio":4})"), 409), "busy just now");
}

TEST_F(AdminTest, PolicyFieldsAreChecked) {
    start();
    const std::vector<std::pair<const char*, const char*>> wrong = {
        {R"({})", "nothing to change"},
        {R"({"process":1})", "nothing to change"},
        {R"({"ratio":4,"process":0})", "process must be the number of a process"},
        {R"({"ratio":4,"process":-1})", "process must be"},
        {R"({"ratio":4,"process":"1"})", "process must be"},
        {R"({"ratio":4,"process":2147483648})", "process must be"},
        {R"([])", "not a JSON object"},
        {R"({"ratio":)", "not JSON"},
        {R"({"ratio":0.9})", "ratio is 0.9; give"},
        {R"({"high_water":0})", "high_water"},
        {R"({"high_water":1})", "high_water is 1;"},
        {R"({"keep_first":0})", "keep_first is 0;"},
        {R"({"keep_last":1.5})", "keep_last"},
        {R"({"automatic":1})", "automatic"},
        {R"({"method":""})", "method must be"},
        {R"({"speed":1})", "no field 'speed'"},
    };
    for (const auto& [body, words] : wrong)
        EXPECT_TRUE(contains(error_of(post("/policy", body), 400), words)) << body;
    EXPECT_TRUE(control.asked("policy").empty());
}

TEST(RequestBody, NestedDeepIsRefused) {
    constexpr size_t kDepth = 500000; // writing it out would take more stack than there is
    const std::string nested = std::string(kDepth, '[') + std::string(kDepth, ']');
    for (const std::string name : {"ratio", "keep_last", "method"}) {
        const auto request = policy_request("{\"" + name + "\":" + nested + "}");
        ASSERT_FALSE(request);
        EXPECT_TRUE(contains(request.error().message, name)) << request.error().message;
    }
}

TEST_F(AdminTest, ThePageIsWholeAndLoadsNothing) {
    start();
    const auto answer = client().Get("/");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->get_header_value("Content-Type"), "text/html; charset=utf-8");
    EXPECT_TRUE(contains(answer->get_header_value("Content-Security-Policy"), "default-src 'none'"));
    EXPECT_TRUE(answer->body.starts_with("<!doctype html>"));
    EXPECT_TRUE(answer->body.ends_with("</html>\n"));
    for (const char* part : {"--folded", "function heatMap", "function showState"}) // all three were put in
        EXPECT_TRUE(contains(answer->body, part)) << part;
    for (const char* outside : {"{{", "src=\"", "@import", "url(", "rel=\"stylesheet\""})
        EXPECT_FALSE(contains(answer->body, outside)) << outside;
}

TEST_F(AdminTest, UnknownPathsAndMethodsAreNamed) {
    start();
    EXPECT_EQ(error_of(client().Get("/nothing"), 404), "no such path: /nothing");
    EXPECT_EQ(error_of(client().Get("/compact"), 405), "/compact takes POST only");
    EXPECT_EQ(error_of(client().Delete("/policy"), 405), "/policy takes GET, POST only");
    const auto answer = client().Put("/state", "{}", "application/json");
    error_of(answer, 405);
    EXPECT_EQ(answer->get_header_value("Allow"), "GET");
    EXPECT_EQ(answer->get_header_value("Access-Control-Allow-Origin"), "");
}

TEST_F(AdminTest, HeadIsAnsweredAsGetWithoutABody) {
    start();
    const auto answer = client().Head("/state");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
    EXPECT_EQ(answer->body, "");
}

TEST_F(AdminTest, BodiesHaveALimit) {
    control.on("policy", valid_json(R"({"policy":{}})"));
    start();
    const std::string body = R"({"ratio":4})";
    const auto padded = [&](size_t size) { return body + std::string(size - body.size(), ' '); };
    json_of(post("/policy", padded(64 * 1024)), 200);
    EXPECT_EQ(error_of(post("/policy", padded(64 * 1024 + 1)), 413), "the body is too long");
    EXPECT_EQ(control.asked("policy").size(), 1u);
}

TEST_F(AdminTest, TheTokenIsNeededEverywhereButOnThePageAndHealth) {
    start({.token = "secret"});
    for (const char* path : {"/state", "/processes", "/sequences", "/metrics", "/policy", "/nothing"}) {
        const auto refused = client().Get(path);
        EXPECT_TRUE(contains(error_of(refused, 401), "token")) << path;
        EXPECT_EQ(refused->get_header_value("WWW-Authenticate"), "Bearer");
    }
    error_of(post("/compact", R"({"id_slot":0})"), 401);
    error_of(post("/policy", R"({"ratio":2})"), 401);
    EXPECT_TRUE(control.asked("state").empty());
    EXPECT_TRUE(control.asked("compact").empty());
    EXPECT_TRUE(control.asked("policy").empty());

    EXPECT_EQ(get("/health")["status"], "ok");
    EXPECT_EQ(client().Get("/")->status, 200);
}

TEST_F(AdminTest, OnlyTheWholeTokenIsAccepted) {
    start({.token = "secret"});
    const auto status = [&](const char* header) {
        return client().Get("/state", {{"Authorization", header}})->status;
    };
    EXPECT_EQ(status("Bearer secret"), 200);
    EXPECT_EQ(status("bearer secret"), 200); // the scheme's case does not count
    for (const char* wrong : {"Bearer ", "Bearer secre", "Bearer secreT", "Bearer secretsecret",
                              "Bearer secrets", "secret", "Basic secret", ""})
        EXPECT_EQ(status(wrong), 401) << wrong;
}

TEST_F(AdminTest, AForeignHostNameIsRefusedOnLoopback) {
    start();
    const auto status = [&](const std::string& host, const char* path = "/state") {
        return client().Get(path, {{"Host", host}})->status;
    };
    for (const char* own :
         {"127.0.0.1", "127.0.0.1:8089", "localhost", "LocalHost:1234", "[::1]:8089", "[::1]"})
        EXPECT_EQ(status(own), 200) << own;
    for (const char* foreign :
         {"evil.example", "evil.example:8089", "127.0.0.1.evil.example", "localhost.", "[::2]", "::1"})
        EXPECT_EQ(status(foreign), 403) << foreign;
    EXPECT_EQ(status("evil.example", "/"), 403);
    EXPECT_TRUE(contains(error_of(client().Get("/state", {{"Host", "evil.example"}}), 403), "Host"));
}

TEST_F(AdminTest, AnyHostNameIsFineWhereOthersMayConnectWithAToken) {
    start({.host = "0.0.0.0", .token = "secret"});
    const auto answer = client().Get("/state", {{"Host", "box.example"}, {"Authorization", "Bearer secret"}});
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->status, 200);
}

TEST_F(AdminTest, AnotherWebPageIsRefused) {
    control.on("policy", valid_json(R"({"policy":{}})"));
    start();
    const std::string own = "127.0.0.1:" + std::to_string(server->port());
    const auto from = [&](const std::string& origin) {
        return client().Post("/policy", {{"Host", own}, {"Origin", origin}}, R"({"ratio":4})", "text/plain");
    };
    EXPECT_TRUE(contains(error_of(from("http://evil.example"), 403), "another web page"));
    error_of(from("http://localhost:1"), 403);
    error_of(from("null"), 403);
    EXPECT_TRUE(control.asked("policy").empty());
    json_of(from("http://" + own), 200);
}

TEST_F(AdminTest, TwoClientsAreServedAtOnce) {
    // Each question waits until the other one has arrived too.
    std::promise<void> first, second;
    std::atomic<int> arrived = 0;
    control.on("state", [&](const Json&) -> Result<Json> {
        const bool is_first = arrived++ == 0;
        (is_first ? first : second).set_value();
        const auto other = (is_first ? second : first).get_future().wait_for(std::chrono::seconds(10));
        if (other != std::future_status::ready) return fail(ErrorCode::internal, "the other one never came");
        return some_state();
    });
    start();
    auto one = std::async(std::launch::async, [&] { return client().Get("/state"); });
    auto two = std::async(std::launch::async, [&] { return client().Get("/state"); });
    json_of(one.get(), 200);
    json_of(two.get(), 200);
}

TEST_F(AdminTest, APortInUseIsNamed) {
    start();
    const AdminOptions same = {.port = server->port()};
    const auto second = AdminServer::start(same, control);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::io);
    EXPECT_TRUE(contains(second.error().message, std::to_string(same.port) + " on 127.0.0.1 is in use"))
        << second.error().message;
    server.reset(); // and is free again afterwards
    EXPECT_TRUE(AdminServer::start(same, control));
}

TEST_F(AdminTest, AHostThatOthersReachNeedsAToken) {
    for (const char* host : {"0.0.0.0", "::", "127.0.0.1.example", "box"}) {
        const auto refused = AdminServer::start({.host = host, .port = 0}, control);
        ASSERT_FALSE(refused) << host;
        EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
        EXPECT_TRUE(contains(refused.error().message, "give a token")) << refused.error().message;
    }
    EXPECT_TRUE(AdminServer::start({.host = "0.0.0.0", .port = 0, .token = "secret"}, control));
}

TEST_F(AdminTest, AHostOfAnotherMachineIsRefusedWithTheReason) {
    // 192.0.2.0/24 belongs to documentation: no machine has it.
    const auto refused = AdminServer::start({.host = "192.0.2.1", .port = 0, .token = "secret"}, control);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::io);
    EXPECT_TRUE(contains(refused.error().message, "192.0.2.1")) << refused.error().message;
    EXPECT_FALSE(contains(refused.error().message, "\n"));
}

} // namespace
} // namespace kvfold::admin::testing
