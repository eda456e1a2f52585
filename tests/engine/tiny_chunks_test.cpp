// One chunk or many, on a tiny model.
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kTokens = 160;

Method tiny_chunks_of(size_t cells) {
    Method method = methods::chunked;
    method.chunk = cells;
    method.study.least_tokens = 0;
    return method;
}

class TinyChunks : public testing::TinySequence {
  protected:
    void SetUp() override { read(kTokens); }

    CompactState compacted(const Method& method) {
        auto state = compact_state(model_.get(), before_, testing::request_for(tokens_, 4, method));
        EXPECT_TRUE(state) << state.error().message;
        return state ? *std::move(state) : CompactState{before_, {}};
    }
};

TEST_P(TinyChunks, OneChunkIsByteForByteWhatTheMethodMakesAtOnce) {
    const CompactState at_once = compacted(tiny_chunks_of(0));
    const CompactState one = compacted(tiny_chunks_of(kTokens));
    testing::expect_same_compaction(one, at_once);
    const CompactState two = compacted(tiny_chunks_of(kTokens / 2)); // broken twin: not one
    EXPECT_NE(encode_sequence(two.state), encode_sequence(at_once.state));
}

TEST_P(TinyChunks, ManyKeepAsManyCellsAsOne) {
    const CompactState many = compacted(tiny_chunks_of(64));
    EXPECT_EQ(many.report.cells_before, kTokens);
    EXPECT_EQ(many.report.cells_after, kTokens / 4);
    EXPECT_EQ(many.state.sections[0].cells.size(), kTokens / 4);
    for (const HeadReport& head : many.report.heads)
        EXPECT_EQ(head.kept.size(), many.report.regions.folded);
}

INSTANTIATE_TEST_SUITE_P(Models, TinyChunks, ::testing::Values("mha", "gemma3", "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

} // namespace
} // namespace kvfold
