// Queries that were heard while a text was read stand for those of its newest tokens.
#include "engine/fold_once.h"
#include "fit/study_region.h"
#include "model/probe.h"
#include "study/listen.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kText = 400, kBatch = 100;

class Heard : public testing::TinySequence {
  protected:
    void SetUp() override {
        model_ = testing::tiny_model(GetParam());
        auto map = probe_attention(model_.get(), testing::one_thread());
        ASSERT_TRUE(map) << map.error().message;
        map_ = *std::move(map);
        ctx_ =
            testing::make_context(model_, {.n_ctx = 512, .watch = &TapPlace::callback, .watcher = &place_});
        ASSERT_TRUE(ctx_);
        tokens_ = testing::random_tokens(kText);
        Hearing hearing(place_, map_.layers, kText);
        for (size_t done = 0; done < kText; done += kBatch) {
            const auto batch = TokenSpan(tokens_).subspan(done, kBatch);
            const auto decode = [&] {
                return decode_tokens(ctx_.get(), batch, static_cast<llama_pos>(done), Outputs::none);
            };
            ASSERT_TRUE(hearing.read(kBatch, decode));
        }
        heard_ = hearing.take();
        before_ = testing::snapshot_of(ctx_.get());
    }

    Study study(const Study* heard, const Method& method = methods::refine,
                std::vector<std::vector<llama_token>> expected = {}) {
        CompactRequest request = testing::request_for(tokens_, 4, method);
        request.heard = heard;
        request.expected = std::move(expected);
        const auto regions = plan_regions(before_.sections.front(), request.budget, request.method->keep);
        EXPECT_TRUE(regions);
        auto study = study_region(problem_of(model_.get(), map_, before_, *regions, plans_of(*request.method),
                                             request, *usable_kernels().front()));
        EXPECT_TRUE(study) << study.error().message;
        return study ? *std::move(study) : Study{};
    }

    // Of the newest tokens: the rows that a heard study must have given.
    static double distance(const Study& a, const Study& b, Index tokens) {
        double apart = 0, size = 0;
        for (size_t i = 0; i < a.layers.size(); ++i) {
            const Index rows = tokens * a.layers[i].readers;
            apart += (a.layers[i].rows.topRows(rows) - b.layers[i].rows.topRows(rows)).squaredNorm();
            size += b.layers[i].rows.topRows(rows).squaredNorm();
        }
        return std::sqrt(apart / size);
    }

    TapPlace place_;
    AttentionMap map_;
    Study heard_;
};

Study scaled(Study study, float factor) {
    for (LayerQueries& layer : study.layers)
        layer.rows *= factor;
    return study;
}

// With a window that slides it is not: what the newest tokens saw has left the window when they are read
// again.
class HeardWithoutWindow : public Heard {};

TEST_P(HeardWithoutWindow, TheStudyIsThatOfTokensThatAreReadAgain) {
    ASSERT_EQ(heard_.tokens(), static_cast<Index>(kText)); // no more than a study may ask for
    const Study read = study(nullptr), heard = study(&heard_);
    ASSERT_EQ(heard.tokens(), read.tokens());
    EXPECT_LT(distance(heard, read, read.tokens()), 0.01);
    const Study twice = scaled(heard_, 2);
    EXPECT_GT(distance(study(&twice), read, read.tokens()), 0.1);
}

TEST_P(Heard, WhatWasHeardIsNotReadAgain) {
    const Study marked = scaled(heard_, 0);
    const Study asked = study(&marked);
    const auto& rows = asked.layers.front().rows;
    Index silent = 0;
    while (silent < rows.rows() && rows.row(silent).isZero())
        ++silent;
    EXPECT_GE(silent, kText / 8);       // the tail's share
    EXPECT_LT(silent, rows.rows() / 2); // the other sources are read
}

// Tokens of a study by where their queries differ between two.
std::vector<bool> differing(const Study& a, const Study& b) {
    std::vector<bool> differ;
    const LayerQueries &one = a.layers.front(), &other = b.layers.front();
    for (Index token = 0; token < a.tokens(); ++token)
        differ.push_back(one.rows.row(token * one.readers) != other.rows.row(token * other.readers));
    return differ;
}

// Whatever was heard, and whatever else is expected: the tail, pseudo and what is expected count once, the
// others more.
TEST_P(Heard, TheImportanceOfATokenIsThatOfItsPassage) {
    const Method& method = testing::quick_method();
    ASSERT_GT(method.study.places_share, 0);
    const auto tokens = testing::random_tokens(40);
    const std::vector<llama_token> one(tokens.begin(), tokens.begin() + 20),
        other(tokens.begin() + 20, tokens.end());
    const Study silent = scaled(heard_, 0);
    const Study asked = study(&silent, method, {one});
    ASSERT_EQ(std::ssize(asked.importance), asked.tokens());
    const std::vector<bool> tail = differing(asked, study(&heard_, method, {one}));
    const std::vector<bool> expected = differing(asked, study(&silent, method, {other}));
    EXPECT_GE(std::ranges::count(tail, true), kText / 8);
    EXPECT_GE(std::ranges::count(expected, true), 19); // two tokens may be the same
    double places = 0, all = 0;
    for (size_t token = 0; token < tail.size(); ++token) {
        const float importance = asked.importance[token];
        if (tail[token] || expected[token]) {
            EXPECT_EQ(importance, 1) << token;
        }
        all += importance;
        if (importance != 1) places += importance;
    }
    EXPECT_NEAR(places / all, method.study.places_share, 1e-4);
}

TEST_P(Heard, TooLittleIsNotEnough) {
    const std::vector<Index> few = {0, 1, 2};
    const Study three = scaled(queries_of_tokens(heard_, few), 0);
    EXPECT_LT(distance(study(&three), study(nullptr), 3), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Models, HeardWithoutWindow, ::testing::Values("mha", "mqa", "unequal_widths"),
                         [](const auto& info) { return std::string(info.param); });
INSTANTIATE_TEST_SUITE_P(Models, Heard, ::testing::Values("mha", "mqa", "unequal_widths", "gemma3"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Hearing, ListensToTheNewestTokensAlone) {
    const testing::ModelPtr model = testing::tiny_model("mha");
    const auto map = probe_attention(model.get(), testing::one_thread());
    ASSERT_TRUE(map);
    TapPlace place;
    Hearing hearing(place, map->layers, 3000);
    std::vector<bool> listened;
    for (size_t done = 0; done < 3000; done += 500)
        ASSERT_TRUE(hearing.read(500, [&]() -> Status {
            listened.push_back(place.tap != nullptr);
            return {};
        }));
    EXPECT_EQ(listened, (std::vector<bool>{false, false, false, false, true, true}));
}

} // namespace
} // namespace kvfold
