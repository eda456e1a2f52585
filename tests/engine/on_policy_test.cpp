// Which heads the on-policy methods change, beside refine, whose first fit is the same.
#include "engine/model_sequence.h"
#include "engine/sequential.h"

namespace kvfold {
namespace {

constexpr size_t kTokens = 300;

class OnPolicy : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_MODEL_SMOL");
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

    // refine with fewer steps, asked of this cache.
    static Method quick(Method::Policy policy) {
        Method method = methods::refine;
        method.solve.refine_steps = 8;
        method.policy = policy;
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
    const CompactState first = compact(quick(Method::Policy::full));
    const CompactState refit = compact(quick(Method::Policy::refit));
    const auto changed = changed_heads(first, refit);
    EXPECT_EQ(std::count(changed.begin(), changed.end(), true), refit.report.heads_refitted);
    EXPECT_GT(refit.report.heads_refitted, 0);
    EXPECT_LT(refit.report.heads_refitted, std::ssize(changed)); // the broken twin: all, asked or not
    EXPECT_EQ(first.report.heads_refitted, 0);
    EXPECT_GT(refit.report.study_tokens, first.report.study_tokens);
}

TEST_F(OnPolicy, SequentialLeavesTheFirstGroupOfLayersAsItIsAndAsksAnewForTheOthers) {
    const CompactState first = compact(quick(Method::Policy::full));
    const CompactState sequential = compact(quick(Method::Policy::sequential));
    const auto changed = changed_heads(first, sequential);
    const size_t layers = snapshot_.sections[0].keys.size(), heads = changed.size() / layers;
    const size_t first_group = (layers + kLayerGroups - 1) / kLayerGroups * heads;
    for (size_t head = 0; head < changed.size(); ++head)
        EXPECT_EQ(changed[head], head >= first_group) << "head " << head;
    EXPECT_EQ(sequential.report.cells_after, first.report.cells_after);
    EXPECT_EQ(sequential.report.study_tokens, first.report.study_tokens);
    // The broken twin: had all heads stayed full in the scratch context, nothing was asked on policy.
    EXPECT_LT(sequential.report.heads_left_full, std::ssize(changed) / 2);
}

} // namespace
} // namespace kvfold
