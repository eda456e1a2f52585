// The arithmetic of scores against a naive twin.
#include "measure/score.h"

#include "support/divergence.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

namespace kvfold {
namespace {

constexpr Index kVocabulary = 50;
constexpr double kTolerance = 1e-6; // f32 logits, sums of 50 terms

Matrix random_logits(Index rows, unsigned seed) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal(0, 3);
    return Matrix::NullaryExpr(rows, kVocabulary, [&] { return normal(rng); });
}

std::vector<float> row(const Matrix& logits, Index i) { return {logits.row(i).begin(), logits.row(i).end()}; }

double naive_nll(const std::vector<float>& logits, llama_token token) {
    double sum = 0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit));
    return -std::log(std::exp(static_cast<double>(logits[static_cast<size_t>(token)])) / sum);
}

llama_token top(const std::vector<float>& logits) {
    return static_cast<llama_token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(Score, OfAnAnswerIsThatOfItsNaiveTwin) {
    const std::array<llama_token, 7> answer = {3, 49, 0, 7, 7, 21, 30};
    const Matrix full = random_logits(7, 1), compact = full + 0.3f * random_logits(7, 2);
    const Score score = score_answer(full, compact, answer);
    double kl = 0, nll = 0, nll_full = 0, top1 = 0, nll_of_the_row_before = 0;
    for (Index i = 0; i < 7; ++i) {
        const llama_token token = answer[static_cast<size_t>(i)];
        kl += testing::kl_divergence(row(full, i), row(compact, i)) / 7;
        nll += naive_nll(row(compact, i), token) / 7;
        nll_full += naive_nll(row(full, i), token) / 7;
        nll_of_the_row_before += naive_nll(row(compact, (i + 6) % 7), token) / 7;
        top1 += top(row(full, i)) == top(row(compact, i)) ? 1.0 / 7 : 0;
    }
    EXPECT_NEAR(score.kl, kl, kTolerance);
    EXPECT_NEAR(score.nll, nll, kTolerance);
    EXPECT_NEAR(score.nll_full, nll_full, kTolerance);
    EXPECT_NEAR(score.dnll(), nll - nll_full, kTolerance);
    EXPECT_NEAR(score.top1, top1, kTolerance);
    EXPECT_GT(std::abs(score.nll - nll_of_the_row_before), 0.1); // broken twin: one row off
    EXPECT_EQ(score.tokens, 7u);
    EXPECT_EQ(score.answers, 1u);
}

TEST(Score, IsExactOnlyWhenEveryTokenOfTheAnswerIsTheMostLikely) {
    const Matrix full = random_logits(4, 3);
    std::vector<llama_token> answer;
    for (Index i = 0; i < 4; ++i)
        answer.push_back(top(row(full, i)));
    EXPECT_EQ(score_answer(full, full, answer).exact, 1);
    for (Index i = 0; i < 4; ++i) {
        Matrix wrong = full;
        wrong(i, (answer[static_cast<size_t>(i)] + 1) % kVocabulary) = 100;
        const Score score = score_answer(full, wrong, answer);
        EXPECT_EQ(score.exact, 0) << i;
        EXPECT_EQ(score.exact_full, 1) << i;
        EXPECT_EQ(score.top1, 0.75) << i;
        EXPECT_EQ(score_answer(wrong, full, answer).exact_full, 0) << i;
    }
}

TEST(Score, OfACacheAgainstItselfIsZero) {
    const std::array<llama_token, 3> answer = {1, 2, 3};
    const Matrix full = random_logits(3, 4);
    const Score score = score_answer(full, full, answer);
    EXPECT_EQ(score.kl, 0);
    EXPECT_EQ(score.dnll(), 0);
    EXPECT_EQ(score.top1, 1);
}

TEST(Score, OfHugeLogitsIsFinite) {
    Matrix huge = random_logits(1, 5) * 1e6f;
    const std::array<llama_token, 1> answer = {0};
    const Score score = score_answer(huge, -huge, answer);
    EXPECT_TRUE(std::isfinite(score.kl) && std::isfinite(score.nll));
}

TEST(Score, OfSeveralAnswersWeighsTokensAndAnswers) {
    const std::array<Score, 2> scores = {
        Score{.tokens = 9, .answers = 1, .kl = 1, .nll = 2, .exact = 1, .exact_full = 1, .written = 0.5},
        Score{.tokens = 1, .answers = 1, .kl = 11, .nll = 4, .exact = 0, .exact_full = 1}};
    const Score both = pool(scores);
    EXPECT_EQ(both.tokens, 10u);
    EXPECT_EQ(both.answers, 2u);
    EXPECT_NEAR(both.kl, 2, 1e-12);
    EXPECT_NEAR(both.nll, 2.2, 1e-12);
    EXPECT_NEAR(both.exact, 0.5, 1e-12);
    EXPECT_NEAR(both.exact_full, 1, 1e-12);
    EXPECT_NEAR(both.written, 0.25, 1e-12);
    EXPECT_EQ(pool({}).tokens, 0u);
}

} // namespace
} // namespace kvfold
