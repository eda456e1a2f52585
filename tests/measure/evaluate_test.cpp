// Evaluation on a real model: what must come out whatever the figures are.
#include "measure/model_text.h"

#include <algorithm>
#include <map>

namespace kvfold {
namespace {

class Evaluate : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        text_ = testing::filler_tokens(model_.get(), 700);
    }

    testing::ModelPtr model_;
    std::vector<llama_token> text_;
};

TEST_F(Evaluate, AFullCacheIsAtTheNoiseFloorAndATruncatedOneIsNot) {
    const Task both[] = {testing::task_of(tasks::continuation, model_.get(), text_, 400),
                         testing::task_of(tasks::copy, model_.get(), text_, 400)};
    EvalRequest request = testing::request_with({&methods::keep_first}, 8);
    request.ratios = {1, 8};
    const auto rows = evaluate(model_.get(), both, request);
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(rows->size(), 6u);
    for (const size_t first : {0u, 3u}) {
        const EvalRow &noise = (*rows)[first], &full = (*rows)[first + 1], &truncated = (*rows)[first + 2];
        EXPECT_EQ(noise.task, both[first / 3].name);
        EXPECT_EQ(noise.method, kNoiseFloor);
        EXPECT_EQ(full.score.kl, 0) << "ratio 1 is the same cache";
        EXPECT_EQ(full.score.exact, full.score.exact_full);
        EXPECT_GT(noise.score.kl, 0);
        EXPECT_LT(noise.score.kl, 0.02);
        EXPECT_GT(truncated.score.kl, 10 * noise.score.kl); // broken twin: most of the cells are gone
        EXPECT_EQ(truncated.report.cells_after, 50u);
    }
}

TEST_F(Evaluate, WhereNothingIsFoldedNothingIsRecalled) {
    const Task task = testing::task_of(tasks::copy, model_.get(), text_, 400);
    EvalRequest request = testing::request_with({&methods::select}, 8);
    request.ratios = {1, 8};
    request.recalls = {0, 8};
    const auto rows = evaluate(model_.get(), {&task, 1}, request);
    ASSERT_TRUE(rows) << rows.error().message;
    std::vector<std::string> names;
    for (const EvalRow& row : *rows)
        names.push_back(row.method);
    EXPECT_EQ(names, (std::vector<std::string>{std::string(kNoiseFloor), "select", "select", "select +8"}));
}

TEST_F(Evaluate, WhatACacheWritesIsJudgedBesideWhatTheFullOneWrites) {
    static size_t longest; // characters that were written
    longest = 0;
    static const Judge judge = {
        "e", "e", "a number of the text", [](std::string_view text, std::string_view) {
            longest = std::max(longest, text.size());
            return static_cast<double>(std::hash<std::string_view>{}(text) % 1000) / 1000;
        }};
    Task task = testing::task_of(tasks::copy, model_.get(), text_, 400);
    EvalRequest request = testing::request_with({&methods::keep_first}, 8);
    request.ratios = {1, 8};
    const auto unjudged = evaluate(model_.get(), {&task, 1}, request);
    task.judge = &judge;
    const auto rows = evaluate(model_.get(), {&task, 1}, request);
    ASSERT_TRUE(unjudged) << unjudged.error().message;
    ASSERT_TRUE(rows) << rows.error().message;
    ASSERT_EQ(rows->size(), 3u);
    const EvalRow &full = (*rows)[1], &truncated = (*rows)[2];
    EXPECT_EQ(full.judge, &judge);
    EXPECT_GT(longest, 0u);
    EXPECT_EQ(full.score.written, full.score.written_full) << "ratio 1 is the same cache";
    EXPECT_EQ(full.score.written_full, truncated.score.written_full);
    EXPECT_NE(truncated.score.written,
              truncated.score.written_full); // broken twin: most of the cells are gone
    EXPECT_EQ(truncated.score.nll, unjudged->back().score.nll) << "writing leaves no trace";
    EXPECT_EQ(unjudged->back().judge, nullptr);
}

TEST_F(Evaluate, ProbesDoNotSeeEachOther) {
    Task task = testing::task_of(tasks::copy, model_.get(), text_, 400);
    const EvalRequest request = testing::request_with({&methods::keep_last}, 4);
    const auto nll_of_last = [&](const Task& asked) {
        const auto rows = evaluate(model_.get(), {&asked, 1}, request);
        EXPECT_TRUE(rows) << rows.error().message;
        return rows ? rows->back().by_depth.back().score.nll : 0;
    };
    task.by_depth = true;
    Task alone = task;
    alone.probes = {task.probes.back()};
    EXPECT_EQ(nll_of_last(task), nll_of_last(alone));
    Task twice = alone; // broken twin: the passage stands in the prompt as well
    const auto& answer = alone.probes[0].answer;
    twice.probes[0].prompt.insert(twice.probes[0].prompt.begin(), answer.begin(), answer.end());
    EXPECT_NE(nll_of_last(twice), nll_of_last(alone));
}

TEST_F(Evaluate, HindsightIsRefusedWhereItWouldDoNothing) {
    const Task task = testing::task_of(tasks::continuation, model_.get(), text_, 400);
    EvalRequest request = testing::request_with({&methods::generation}, 8);
    request.hindsight = Hindsight::judged;
    const auto rows = evaluate(model_.get(), {&task, 1}, request);
    ASSERT_FALSE(rows);
    EXPECT_NE(rows.error().message.find("method generation studies no text"), std::string::npos);
    SuiteRequest suite;
    suite.kinds = {&tasks::chat};
    suite.context = 768;
    suite.eval = testing::request_with({&methods::keep_last}, 8);
    suite.eval.hindsight = Hindsight::judged;
    const auto chat = run_suite(model_.get(), suite);
    ASSERT_FALSE(chat);
    EXPECT_NE(chat.error().message.find("no hindsight"), std::string::npos) << chat.error().message;
}

TEST_F(Evaluate, HindsightOfWhatComesLaterIsNotThatOfWhatIsJudged) {
    const auto text = testing::filler_tokens(model_.get(), 400 + 1 + 256 + kLaterTokens);
    const Task task = testing::task_of(tasks::continuation, model_.get(), text, 400);
    ASSERT_EQ(task.later.size(), kLaterTokens);
    EXPECT_TRUE(std::ranges::equal(task.later, std::span(text).last(kLaterTokens)));
    std::map<Hindsight, double> kl;
    for (const Hindsight hindsight : {Hindsight::none, Hindsight::judged, Hindsight::later}) {
        EvalRequest request = testing::request_with({&methods::solver}, 8);
        request.hindsight = hindsight;
        const auto rows = evaluate(model_.get(), {&task, 1}, request);
        ASSERT_TRUE(rows) << rows.error().message;
        kl[hindsight] = rows->back().score.kl;
    }
    EXPECT_LT(kl[Hindsight::judged], kl[Hindsight::none]);
    EXPECT_LT(kl[Hindsight::judged], kl[Hindsight::later]);
    EXPECT_NE(kl[Hindsight::later], kl[Hindsight::none]);
}

TEST_F(Evaluate, HindsightOfWhatComesLaterNeedsATextThatGoesOn) {
    SuiteRequest suite;
    suite.kinds = {&tasks::continuation, &tasks::questions};
    suite.texts = {{"a text", testing::filler_tokens(model_.get(), 1200)}};
    suite.context = 400;
    suite.eval = testing::request_with({&methods::select}, 8);
    suite.eval.hindsight = Hindsight::later;
    bool started = false;
    suite.eval.step = [&](std::string_view) { started = true; };
    const auto rows = run_suite(model_.get(), suite);
    ASSERT_FALSE(rows);
    EXPECT_FALSE(started);
    EXPECT_NE(rows.error().message.find("task questions: no text goes on"), std::string::npos)
        << rows.error().message;
}

TEST_F(Evaluate, WhatCannotBeReachedIsRefusedBeforeThePrefill) {
    const Task task = testing::task_of(tasks::continuation, model_.get(), text_, 400);
    const auto refusal = [&](EvalRequest request) {
        bool prefilled = false;
        request.step = [&](std::string_view) { prefilled = true; };
        const auto rows = evaluate(model_.get(), {&task, 1}, request);
        EXPECT_FALSE(prefilled);
        return rows ? "not refused" : rows.error().message;
    };
    EXPECT_NE(refusal(testing::request_with({&methods::select}, 100)).find("ratio 100"), std::string::npos);
    EvalRequest also = testing::request_with({&methods::select}, 2);
    also.caches.push_back({"q4_0", GGML_TYPE_Q4_0, GGML_TYPE_Q4_0});
    EXPECT_NE(refusal(also).find("ratio 2: a q4_0 cache takes 3.56 times"), std::string::npos);
}

TEST_F(Evaluate, ASuiteRunsEveryTaskOnEveryTextOffsetAndSeed) {
    SuiteRequest suite;
    suite.kinds = {&tasks::questions, &tasks::copy};
    suite.texts = {{"a", text_}, {"b", text_}};
    suite.offsets = {0, 10};
    suite.seeds = {1, 2};
    suite.context = 400;
    suite.eval = testing::request_with({&methods::keep_random}, 4);
    const auto runs = run_suite(model_.get(), suite);
    ASSERT_TRUE(runs) << runs.error().message;
    size_t copies = 0, questions = 0;
    double offset_0 = 0, offset_10 = 0, seed_2 = 0;
    for (const SuiteRow& run : *runs) {
        if (run.row.method == kNoiseFloor) continue;
        copies += run.row.task == "copy";
        questions += run.row.task == "questions";
        if (run.row.task != "copy" || run.text != "a") continue;
        (run.seed == 2 ? seed_2 : run.offset == 0 ? offset_0 : offset_10) = run.row.score.kl;
    }
    EXPECT_EQ(copies, 8u);
    EXPECT_EQ(questions, 2u);
    EXPECT_NE(offset_0, offset_10);
    EXPECT_NE(offset_10, seed_2); // the same window, other cells drawn
    EXPECT_EQ(summarize(*runs).size(), 4u);

    suite.kinds = {&tasks::continuation};
    suite.offsets = {0, 100};
    const auto refused = run_suite(model_.get(), suite);
    ASSERT_FALSE(refused);
    const std::string& why = refused.error().message;
    EXPECT_NE(why.find("a: has 600 tokens behind offset 100, but 657 are needed"), std::string::npos) << why;
}

} // namespace
} // namespace kvfold
