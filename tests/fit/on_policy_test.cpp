// Which heads the on-policy methods change, beside refine, whose first fit is the same.
#include "engine/model_sequence.h"
#include "fit/on_policy.h"
#include "fit/sequential.h"

namespace kvfold {
namespace {

constexpr size_t kTokens = 300;

class OnPolicy : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        const testing::ContextPtr ctx = testing::make_context(model_, {.n_ctx = 384});
        ASSERT_TRUE(ctx);
        tokens_ = testing::filler_tokens(model_.get(), kTokens);
        ASSERT_EQ(testing::decode(ctx.get(), tokens_, 0), 0);
        snapshot_ = testing::snapshot_of(ctx.get());
    }

    CompactState compact(const Method& method) {
        auto result = compact_state(model_.get(), snapshot_, testing::request_for(tokens_, 4, method));
        EXPECT_TRUE(result) << result.error().message;
        return result ? *std::move(result) : CompactState{snapshot_, {}};
    }

    // refine with fewer steps and a small study, asked of this cache.
    static Method quick(FitStrategy fit) {
        Method method = testing::quick(methods::refine);
        method.solve.refine_steps = 8;
        method.fit = fit;
        return method;
    }

    testing::ModelPtr model_;
    std::vector<llama_token> tokens_;
    SequenceState snapshot_;
};

// [heads] whether the folded keys of a head differ.
std::vector<bool> changed_heads(const CompactState& a, const CompactState& b) {
    const KvSection& left = a.state.sections[0];
    const KvSection& right = b.state.sections[0];
    const size_t heads = a.report.heads.size() / left.keys.size();
    std::vector<bool> changed;
    for (size_t layer = 0; layer < left.keys.size(); ++layer) {
        const Matrix x = to_float(left.keys[layer]), y = to_float(right.keys[layer]);
        const Index d = x.cols() / static_cast<Index>(heads);
        for (size_t head = 0; head < heads; ++head) {
            const Index first = static_cast<Index>(head) * d;
            changed.push_back(x.middleCols(first, d) != y.middleCols(first, d));
        }
    }
    return changed;
}

TEST_F(OnPolicy, RefitReplacesSomeHeadsAndCountsThem) {
    const CompactState first = compact(quick(fit_at_once));
    const CompactState refit = compact(quick(fit_on_policy));
    const auto changed = changed_heads(first, refit);
    const double refitted = testing::figure(refit.report, "heads refitted");
    EXPECT_EQ(static_cast<double>(std::count(changed.begin(), changed.end(), true)), refitted);
    EXPECT_GT(refitted, 0);
    EXPECT_LT(refitted, static_cast<double>(changed.size())); // the broken twin: all, asked or not
    EXPECT_TRUE(first.report.figures.empty());
    EXPECT_GT(refit.report.study_tokens, first.report.study_tokens);
}

TEST_F(OnPolicy, SequentialLeavesTheFirstGroupOfLayersAsItIsAndAsksAnewForTheOthers) {
    const CompactState first = compact(quick(fit_at_once));
    const CompactState sequential = compact(quick(fit_sequentially));
    const auto changed = changed_heads(first, sequential);
    const size_t layers = snapshot_.sections[0].keys.size(), heads = changed.size() / layers;
    const size_t first_group = (layers + kLayerGroups - 1) / kLayerGroups * heads;
    for (size_t head = 0; head < changed.size(); ++head)
        EXPECT_EQ(changed[head], head >= first_group) << "head " << head;
    EXPECT_EQ(sequential.report.cells_after, first.report.cells_after);
    EXPECT_EQ(sequential.report.study_tokens, first.report.study_tokens);
    // The broken twin: had all heads stayed full in the scratch context, nothing was asked on policy.
    EXPECT_LT(testing::figure(sequential.report, "heads left full"), static_cast<double>(changed.size() / 2));
}

} // namespace
} // namespace kvfold
