// A Control that answers what the test says and remembers what it was asked, a server on it and a client.
#pragma once

#include "admin/admin_server.h"
#include "support/valid_json.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <functional>
#include <map>
#include <mutex>

namespace kvfold::admin::testing {

inline Json some_state() {
    return valid_json(R"({
        "uptime_s": 12.3,
        "context": {"model": "llama 135M Q4_1", "cells": 2048, "virtual_cells": 8192, "cell_bytes": 23040,
                    "n_seq_max": 4, "unified": true, "managed": true, "reason": ""},
        "policy": {"ratio": 8.0, "method": "refine", "high_water": 0.75, "keep_first": 4, "keep_last": 256,
                   "automatic": true},
        "sequences": [
            {"id": 0, "tokens": 3000, "cells": 900, "pinned": 4, "folded_cells": 300, "recalled_cells": 16,
             "folded_tokens": 2400, "live_cells": 580, "tokens_known": true, "folding": false},
            {"id": 2, "tokens": 50, "cells": 50, "pinned": 4, "folded_cells": 0, "recalled_cells": 0,
             "folded_tokens": 0, "live_cells": 46, "tokens_known": false, "folding": false}],
        "totals": {"cells_used": 950, "folds": 3, "failures": 1, "study_s": 1.5, "solve_s": 2.25, "swap_s": 0.05,
                   "waits": 5, "wait_s": 0.8, "longest_pause_s": 0.5, "tokens_decoded": 9000, "rereads": 2,
                   "taken_back": 7, "recalls": 11, "recall_s": 0.25,
                   "archive_bytes": 800000, "archive_budget": 1000000},
        "history": [], "folds": [], "kept": null})");
}

// One entry of "states"; null: it does not answer.
inline Json some_process(const Json& state, int pid = 123) {
    Json process = {
        {"pid", pid}, {"program", "llama-server"}, {"file", "tiny"}, {"model", "llama 135M Q4_1"}};
    if (!state.is_null()) process["state"] = state;
    return process;
}

class FakeControl : public Control {
  public:
    using Answer = std::function<Result<Json>(const Json&)>;

    FakeControl() {
        on("state", [](const Json&) { return some_state(); });
        on("processes",
           Json{{"processes", Json::array({{{"pid", 123}, {"answers", true}, {"busy_s", 0.0}}})}});
        on("states", [](const Json&) {
            return Json{{"processes", Json::array({some_process(some_state())})}};
        });
    }

    void on(const std::string& op, Answer answer) {
        const std::lock_guard lock(mutex_);
        answers_[op] = std::move(answer);
    }
    void on(const std::string& op, const Json& answer) {
        on(op, [answer](const Json&) { return answer; });
    }

    Result<Json> ask(const Json& request) override {
        Answer answer;
        {
            const std::lock_guard lock(mutex_);
            asked_.push_back(request);
            const auto found = answers_.find(request.at("op"));
            if (found == answers_.end()) return fail(ErrorCode::internal, "the test has no answer for this");
            answer = found->second;
        }
        return answer(request);
    }

    // The requests of that kind so far.
    std::vector<Json> asked(const std::string& op) {
        const std::lock_guard lock(mutex_);
        std::vector<Json> found;
        for (const Json& request : asked_)
            if (request.at("op") == op) found.push_back(request);
        return found;
    }

  private:
    std::mutex mutex_;
    std::map<std::string, Answer> answers_;
    std::vector<Json> asked_;
};

class AdminTest : public ::testing::Test {
  protected:
    void start(AdminOptions options = {}) {
        options.port = 0;
        auto started = AdminServer::start(options, control);
        ASSERT_TRUE(started) << started.error().message;
        server = *std::move(started);
    }

    httplib::Client client() const { return httplib::Client("127.0.0.1", server->port()); }

    // The answer, which must have this status and be JSON.
    static Json json_of(const httplib::Result& answer, int status) {
        if (!answer) {
            ADD_FAILURE() << "no answer: " << httplib::to_string(answer.error());
            return {};
        }
        EXPECT_EQ(answer->status, status) << answer->body;
        EXPECT_EQ(answer->get_header_value("Content-Type"), "application/json");
        Json body = parse_json(answer->body);
        EXPECT_FALSE(body.is_discarded()) << answer->body;
        return body;
    }

    // The message of an error answer, whose code must be the HTTP status.
    static std::string error_of(const httplib::Result& answer, int status) {
        const Json body = json_of(answer, status);
        if (!body.contains("error")) {
            ADD_FAILURE() << "no error in " << body;
            return {};
        }
        EXPECT_EQ(body["error"].value("code", 0), status);
        return body["error"].value("message", "");
    }

    Json get(const std::string& path, int status = 200) { return json_of(client().Get(path), status); }
    httplib::Result post(const std::string& path, const std::string& body) {
        return client().Post(path, body, "application/json");
    }

    FakeControl control;
    std::unique_ptr<AdminServer> server;
};

inline bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
}

} // namespace kvfold::admin::testing
