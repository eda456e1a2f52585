// The same fold by the processor's solver and through ggml, on tiny models.
#include "engine/fold_task.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kFewTokens = 160;

class SolveOnPlaces : public testing::TinySequence {
  protected:
    void SetUp() override { read(kFewTokens); }

    Result<CompactState> compacted(SolveOn where, const Method& method = testing::quick(methods::refine)) {
        CompactRequest request = testing::request_for(tokens_, 4, method);
        request.solve_on = where;
        return compact_state(model_.get(), before_, request);
    }
};

TEST_P(SolveOnPlaces, ADeviceMakesHeadsAsGood) {
    const auto here = compacted(SolveOn::processor), there = compacted(SolveOn::device);
    ASSERT_TRUE(here && there) << there.error().message;
    const SolvedOn& on = there->report.solved_on;
    EXPECT_GT(on.layers, 0u);
    EXPECT_EQ(on.on_devices, on.layers);
    EXPECT_EQ(to_text(on), "CPU");
    ASSERT_EQ(there->report.heads.size(), here->report.heads.size());
    for (size_t i = 0; i < here->report.heads.size(); ++i) {
        const HeadReport &mine = there->report.heads[i], &wanted = here->report.heads[i];
        EXPECT_LT(mine.output_error, 1.1f * wanted.output_error + 1e-3f);
        EXPECT_LT(mine.mass_error, 1.1f * wanted.mass_error + 1e-3f);
        EXPECT_EQ(mine.kept.size(), wanted.kept.size());
    }
    EXPECT_NE(encode_sequence(there->state),
              encode_sequence(here->state)); // it was no other name for the same
}

TEST_P(SolveOnPlaces, TheProcessorsOwnMemoryIsItsOwnByItself) {
    const auto by_itself = compacted(SolveOn::automatic), here = compacted(SolveOn::processor);
    ASSERT_TRUE(by_itself && here);
    EXPECT_EQ(encode_sequence(by_itself->state), encode_sequence(here->state));
    EXPECT_EQ(by_itself->report.solved_on.on_devices, 0u);
    EXPECT_EQ(by_itself->report.solved_on.layers, here->report.solved_on.layers);
    EXPECT_EQ(to_text(by_itself->report.solved_on), "the processor");
}

INSTANTIATE_TEST_SUITE_P(Models, SolveOnPlaces, ::testing::Values("mha", "gemma3", "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SolvedOn, SaysWhereAndWhyNot) {
    SolvedOn sum{4, 0, "", ""};
    EXPECT_EQ(to_text(sum), "the processor");
    add(sum, {16, 16, "CUDA0", ""});
    EXPECT_EQ(to_text(sum), "CUDA0 (16 layers) and the processor (4)");
    add(sum, {1, 0, "", "Vulkan0 does not compute ARGMAX"});
    EXPECT_EQ(to_text(sum), "CUDA0 (16 layers) and the processor (5): Vulkan0 does not compute ARGMAX");
    for (const std::string_view name : kSolveOnNames)
        EXPECT_EQ(kSolveOnNames[static_cast<size_t>(*solve_on_named(name))], name);
    EXPECT_EQ(solve_on_named("gpu").error().code, ErrorCode::invalid_argument);
}

// A chunk of few cells is studied by itself and loses what was asked: even a small cache folds many at once.
TEST(FoldTask, FoldsManyCellsAtOnceWhateverTheCacheHolds) {
    const testing::ModelPtr model = testing::tiny_model("mha");
    const testing::ContextPtr ctx = testing::make_context(model, {.n_ctx = 256});
    const std::vector<llama_token> tokens = testing::random_tokens(128);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    Books books;
    const llama_seq_id owner[] = {0};
    for (const llama_token token : tokens)
        books.decode(books.end(0), token, owner);
    const auto task =
        prepare_fold(ctx.get(), 0, testing::request_for(tokens, 4, testing::quick_method()), books);
    ASSERT_TRUE(task) << task.error().message;
    EXPECT_GE((*task)->request.most_cells, 2048u);
}

} // namespace
} // namespace kvfold
