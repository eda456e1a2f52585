// Sequences far longer than what a scratch context used to spare, and passages longer than what they read.
#include "support/tiny_model.h"

namespace kvfold {
namespace {

using testing::ContextPtr;

constexpr size_t kTokens = 8000;

// The method's own study and strategy; of the solve only the selection, which is what time allows here.
Method that_selects(const Method& method) {
    Method quick = method;
    quick.solve = methods::select.solve;
    quick.study.max_queries = 128;
    return quick;
}

// A recurrent state cannot go back, so the newest tokens are studied behind the sequence.
class LongHybrid : public ::testing::Test {
  protected:
    void read(const char* model) {
        model_ = testing::tiny_model(model);
        const ContextPtr ctx = testing::make_context(model_, {.n_ctx = kTokens + 192});
        ASSERT_TRUE(ctx);
        tokens_ = testing::random_tokens(kTokens);
        ASSERT_EQ(testing::decode(ctx.get(), tokens_, 0), 0);
        snapshot_ = testing::snapshot_of(ctx.get());
    }

    void expect_compacted(const Method& method, double ratio) {
        const auto compact = compact_state(model_.get(), snapshot_,
                                           testing::request_for(tokens_, ratio, that_selects(method)));
        ASSERT_TRUE(compact) << method.name << " at " << ratio << ": " << compact.error().message;
        const auto wanted = static_cast<size_t>(kTokens / ratio);
        const bool may_take_more = &method == &methods::nonuniform; // its largest head decides
        EXPECT_TRUE(compact->report.cells_after == wanted ||
                    (may_take_more && compact->report.cells_after > wanted))
            << method.name << ": " << compact->report.cells_after;
    }

    testing::ModelPtr model_;
    std::vector<llama_token> tokens_;
    SequenceState snapshot_;
};

// One method for each kind of study and strategy: solver and omp study what refine does.
TEST_F(LongHybrid, IsCompactedByEveryMethodThatNeedsNotGoBack) {
    ASSERT_NO_FATAL_FAILURE(read("granite_hybrid"));
    for (const Method* method :
         {&methods::select, &methods::refine, &methods::omp_refine, &methods::on_policy,
          &methods::sequential_on_policy, &methods::nonuniform, &methods::chunked, &methods::context_prefill})
        expect_compacted(*method, 8);
    expect_compacted(methods::refine, 2);
}

// A recurrent state cannot go back to the newest token; drafts are only asked for then, and not continued.
TEST_F(LongHybrid, IsCompactedByMethodsThatDraft) {
    ASSERT_NO_FATAL_FAILURE(read("granite_hybrid"));
    for (const Method* method : {&methods::generation, &methods::best})
        expect_compacted(*method, 8);
}

TEST_F(LongHybrid, OfGatedDeltaLayersIsCompactedToo) {
    ASSERT_NO_FATAL_FAILURE(read("qwen3next"));
    for (const double ratio : {2.0, 8.0})
        expect_compacted(methods::refine, ratio);
}

// The newest tokens go back to where few cells stand for many positions.
TEST(LongTail, OfACompactedSequenceIsStudiedAgain) {
    constexpr size_t kText = 2000;
    const auto model = testing::tiny_model("mha");
    const ContextPtr ctx = testing::make_context(model, {.n_ctx = 2048});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::random_tokens(kText);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    ASSERT_TRUE(compact_sequence(ctx.get(), 0, testing::request_for(tokens, 16, methods::select)));
    Method long_tail = methods::select;
    long_tail.study = {.parts = {{Source::tail, 1.0f}}, .least_tokens = 1500, .max_tokens_a_part = 1500};
    for (const Method& method : {long_tail, that_selects(methods::context_prefill)}) {
        const auto report = compact_sequence(ctx.get(), 0, testing::request_for(tokens, 1.5, method));
        ASSERT_TRUE(report) << method.name << ": " << report.error().message;
        EXPECT_LT(report->cells_after, report->cells_before);
        EXPECT_GE(report->study_tokens, 1500);
    }
}

} // namespace
} // namespace kvfold
