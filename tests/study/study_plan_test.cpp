// How much of each source a plan asks for.
#include "study/text_like.h"

#include <gtest/gtest.h>

#include <numeric>

namespace kvfold {
namespace {

TEST(StudyPlan, AsksForSharesOfTheContextWithinItsBound) {
    const StudyPlan plan{.parts = {{Source::tail, 0.125f}, {Source::pseudo, 0.25f}},
                         .max_tokens_a_part = 300};
    EXPECT_EQ(plan.tokens_for(0.125f, 800), 100u);
    EXPECT_EQ(plan.tokens_for(0.125f, 3), 1u); // never nothing
    EXPECT_EQ(plan.tokens_for(0.5f, 800), 300u);

    const Tokens context = text_like(800);
    std::mt19937_64 rng(1), same(1), other(2);
    constexpr FoldSize all{800, 800};
    const auto passages = plan_passages(plan, context, all, /*back_to=*/1, no_pieces, rng);
    EXPECT_EQ(count_tokens(passages), 300);
    EXPECT_EQ(passages.front().tokens.size(), 100u);
    EXPECT_TRUE(is_same(passages, plan_passages(plan, context, all, /*back_to=*/1, no_pieces, same)));
    EXPECT_FALSE(is_same(passages, plan_passages(plan, context, all, /*back_to=*/1, no_pieces, other)));
}

TEST(StudyPlan, PlacesHaveTheirShareOfTheImportance) {
    const Tokens context = text_like(800);
    StudyPlan plan{.parts = {{Source::tail, 0.25f}, {Source::pseudo, 0.25f}, {Source::repeat, 0.125f}}};
    std::mt19937_64 rng(1);
    const auto passages = plan_passages(plan, context, {800, 800}, /*back_to=*/1, no_pieces, rng);
    EXPECT_TRUE(importance_of(plan, passages).empty());
    plan.places_share = 0.5f;
    const std::vector<float> importance = importance_of(plan, passages);
    ASSERT_EQ(importance.size(), 500u);
    EXPECT_EQ(importance.front(), 1); // of the tail
    EXPECT_EQ(importance.back(), 4);  // 100 tokens, and 400 others
    EXPECT_NEAR(std::accumulate(importance.begin(), importance.end(), 0.0), 800, 1e-3);
    plan.parts.pop_back();
    const auto others = plan_passages(plan, context, {800, 800}, /*back_to=*/1, no_pieces, rng);
    EXPECT_TRUE(importance_of(plan, others).empty()); // nothing asks for places
}

TEST(StudyPlan, AsksForFewPlacesWhenFewCellsAreKept) {
    const Tokens context = text_like(1024);
    const auto tokens_of = [&](Source source, size_t kept) {
        const StudyPlan plan{.parts = {{source, 0.25f}}};
        std::mt19937_64 rng(1);
        return count_tokens(plan_passages(plan, context, {1024, kept}, /*back_to=*/1, no_pieces, rng));
    };
    for (const Source source : {Source::repeat, Source::recite}) {
        EXPECT_EQ(tokens_of(source, 512), 256); // the share
        EXPECT_EQ(tokens_of(source, 205), 256); // 5/4 of what is kept, as much
        EXPECT_EQ(tokens_of(source, 64), 80);
        EXPECT_GT(tokens_of(source, 0), 0); // dropped, not folded
    }
    for (const Source source : {Source::tail, Source::pseudo})
        EXPECT_EQ(tokens_of(source, 64), 256);
}

TEST(StudyPlan, ReadsAsMuchWhenFewCellsAreKept) {
    const Tokens context = text_like(1024);
    StudyPlan plan{.parts = {{Source::pseudo, 0.25f}, {Source::repeat, 0.25f}, {Source::recite, 0.25f}}};
    const auto tokens = [&](size_t kept) {
        std::mt19937_64 rng(1);
        return count_tokens(plan_passages(plan, context, {1024, kept}, /*back_to=*/1, no_pieces, rng));
    };
    EXPECT_EQ(tokens(512), 768);
    EXPECT_EQ(tokens(64), 768);
    plan.max_tokens_a_part = 300; // pseudo too
    EXPECT_EQ(tokens(64), 300 + 80 + 80);
}

TEST(StudyPlan, KnowsHowMuchItReads) {
    const Tokens context = text_like(1024);
    StudyPlan plan{.parts = {{Source::tail, 0.125f}, {Source::pseudo, 0.25f}, {Source::recite, 0.25f}}};
    for (const size_t kept : {32, 128, 512}) {
        std::mt19937_64 rng(1);
        const auto passages = plan_passages(plan, context, {1024, kept}, /*back_to=*/1, no_pieces, rng);
        const StudyTokens tokens = tokens_of(plan, {1024, kept});
        EXPECT_EQ(tokens.newest, passages.front().tokens.size());
        EXPECT_EQ(tokens.all, static_cast<size_t>(count_tokens(passages)));
    }
    plan.draft_share = 0.5f;
    EXPECT_EQ(tokens_of(plan, {1024, 512}).all, 128u + 256 + 256 + 512);
    EXPECT_EQ(tokens_of(plan, {1024, 512}).drafted, 512u);
}

TEST(StudyPlan, GrowsWithTheCellsKeptAndToItsLeastTokens) {
    const Tokens context = text_like(1024);
    StudyPlan plan{.parts = {{Source::tail, 0.125f}, {Source::pseudo, 0.25f}}, .tokens_a_cell = 1.5f};
    const auto sizes = [&](size_t kept) {
        std::mt19937_64 rng(1);
        const auto passages = plan_passages(plan, context, {1024, kept}, /*back_to=*/1, no_pieces, rng);
        return std::pair(passages.front().tokens.size(), count_tokens(passages)); // of the tail, of all
    };
    EXPECT_EQ(sizes(64), std::pair(size_t{128}, Index{384}));
    EXPECT_EQ(sizes(256), std::pair(size_t{128}, Index{384})); // 3/2 of what is kept
    EXPECT_EQ(sizes(512), std::pair(size_t{256}, Index{768}));
    plan.max_tokens_a_part = 300;
    EXPECT_EQ(sizes(512), std::pair(size_t{256}, Index{556}));
    plan.tokens_a_cell = 0;
    EXPECT_EQ(sizes(512), std::pair(size_t{128}, Index{384}));
    plan.least_tokens = 480;
    EXPECT_EQ(sizes(64), std::pair(size_t{160}, Index{460})); // pseudo is at its most
    plan.least_tokens = 300;
    EXPECT_EQ(sizes(64), std::pair(size_t{128}, Index{384}));
}

TEST(StudyPlan, AHalvedPlanReadsHalfOfEachSourceButNoFewerThanTheLeast) {
    StudyPlan plan;
    plan.parts = {{Source::tail, 0.25f}, {Source::pseudo, 0.05f}};
    const StudyPlan half = plan.scaled(0.5f);
    EXPECT_EQ(half.tokens_for(half.parts[0].share, 2048), 256u);
    EXPECT_EQ(half.tokens_for(half.parts[1].share, 2048), 64u); // a share of 51
    EXPECT_EQ(half.tokens_for(half.parts[1].share, 20), 20u);   // no more than there is
    EXPECT_EQ(plan.scaled(1).tokens_for(0.05f, 100), plan.tokens_for(0.05f, 100));
    EXPECT_EQ(plan.tokens_for(0.05f, 100), 5u);
}

} // namespace
} // namespace kvfold
