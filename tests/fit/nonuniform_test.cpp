// Budgets by head: what the cache takes, what the heads see of it.
#include "engine/model_sequence.h"

namespace kvfold {
namespace {

// Slots of one head whose values are all 0.
Index empty_slots(const Matrix& values, Index head, Index width, const Regions& regions) {
    const auto first = static_cast<Index>(regions.head.size() + regions.pinned.size());
    const auto rows = values.block(first, head * width, regions.folded, width);
    return (rows.rowwise().squaredNorm().array() == 0).count();
}

TEST(Nonuniform, TakesTheLargestBudgetAndHidesWhatAHeadDoesNotNeed) {
    const testing::ModelPtr model = testing::load_model("KVFOLD_PLAIN_MODEL");
    const testing::ContextPtr ctx = testing::make_context(model, {.n_ctx = 384});
    ASSERT_TRUE(ctx);
    const auto tokens = testing::filler_tokens(model.get(), 304);
    const std::vector<llama_token> context(tokens.begin(), tokens.begin() + 300);
    const std::vector<llama_token> next(tokens.begin() + 300, tokens.end());
    ASSERT_EQ(testing::decode(ctx.get(), context, 0), 0);
    const auto full = testing::forced_logits(ctx.get(), next, 300);

    Method method = testing::quick(methods::nonuniform);
    method.solve.refine_steps = 8;
    const auto report = compact_sequence(ctx.get(), 0, testing::request_for(context, 6, method));
    ASSERT_TRUE(report) << report.error().message;
    const SequenceState state = testing::snapshot_of(ctx.get());
    EXPECT_EQ(state.sections[0].cells.size(), report->cells_after);
    EXPECT_GT(report->cells_after, 50u); // 300 / 6 is what uniform budgets take
    EXPECT_LE(report->cells_after, 100u);
    const double neutral = testing::figure(*report, "neutral cells");
    EXPECT_GE(static_cast<double>(report->cells_after) - neutral, 50 - 1e-6); // that a head sees on average
    EXPECT_GT(neutral, 0);

    const Index heads = std::ssize(report->heads) / std::ssize(state.sections[0].keys);
    Index differ = 0;
    for (size_t i = 0; i < report->heads.size(); ++i) {
        const HeadReport& head = report->heads[i];
        const Matrix values = to_float(state.sections[0].values[i / static_cast<size_t>(heads)]);
        EXPECT_EQ(empty_slots(values, head.head, values.cols() / heads, report->regions), head.neutral);
        differ += head.neutral != report->heads.front().neutral;
    }
    EXPECT_GT(differ, 0);

    const double kl = testing::mean_kl(full, testing::forced_logits(ctx.get(), next, 300));
    EXPECT_LT(kl, 1.0); // as in compact_test.cpp: the cache makes sense

    SequenceState broken = state; // keys of 0 in the slots that nobody should see
    for (size_t layer = 0; layer < broken.sections[0].keys.size(); ++layer) {
        const Matrix values = to_float(state.sections[0].values[layer]);
        Matrix keys = to_float(state.sections[0].keys[layer]);
        const Index d = keys.cols() / heads, dv = values.cols() / heads;
        for (Index head = 0; head < heads; ++head) {
            for (Index cell = 0; cell < keys.rows(); ++cell) {
                if (values.row(cell).segment(head * dv, dv).isZero(0))
                    keys.row(cell).segment(head * d, d).setZero();
            }
        }
        broken.sections[0].keys[layer] = from_float(keys, GGML_TYPE_F16, /*transposed=*/false).value();
    }
    ASSERT_TRUE(write_sequence(ctx.get(), 0, broken));
    EXPECT_GT(testing::mean_kl(full, testing::forced_logits(ctx.get(), next, 300)), 2 * kl);
}

} // namespace
} // namespace kvfold
