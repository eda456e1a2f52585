// What folds of a real sequence replaced, kept and taken back.
#include "engine/kept_folds.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

constexpr size_t kBegun = 160, kMore = 60;

class KeptOn : public testing::TinySequence {
  protected:
    void SetUp() override {
        read(kBegun + kMore);
        if (HasFatalFailure()) return;
        llama_memory_clear(llama_get_memory(ctx_.get()), true);
        tokens_.resize(kBegun);
        ASSERT_EQ(testing::decode(ctx_.get(), tokens_, 0), 0);
        before_ = testing::snapshot_of(ctx_.get());
    }

    void go_on() {
        const auto all = testing::random_tokens(kBegun + kMore);
        const std::vector<llama_token> more(all.begin() + kBegun, all.end());
        ASSERT_EQ(testing::decode(ctx_.get(), more, kBegun), 0);
        tokens_ = all;
    }

    CompactReport fold(double ratio, KeptFolds* kept) {
        CompactRequest request = testing::request_for(tokens_, ratio, testing::quick_method());
        request.kept = kept;
        const auto report = compact_sequence(ctx_.get(), 0, request);
        EXPECT_TRUE(report) << report.error().message;
        return report ? *report : CompactReport();
    }

    SequenceState take_back(const KeptFolds& kept, size_t cells) {
        auto back = unfolded(testing::snapshot_of(ctx_.get()), kept, cells);
        EXPECT_TRUE(back) << back.error().message;
        if (!back) return {};
        EXPECT_TRUE(write_sequence(ctx_.get(), 0, *back));
        return testing::snapshot_of(ctx_.get());
    }

    KeptFolds kept_{size_t{1} << 30};
};

// Of the section that is folded, by position, up to `end`.
std::vector<uint8_t> bytes_before(const SequenceState& state, int32_t end) {
    const KvSection& section = state.sections.front();
    std::vector<uint32_t> cells = cells_by_position(section);
    std::erase_if(cells, [&](uint32_t cell) { return section.cells[cell].pos >= end; });
    return encode_sequence({{take_cells(section, cells)}, {}});
}

TEST_P(KeptOn, UnfoldingGivesTheSequenceBackByteForByte) {
    fold(4, &kept_);
    EXPECT_NE(bytes_before(testing::snapshot_of(ctx_.get()), kBegun), bytes_before(before_, kBegun));
    const SequenceState back = take_back(kept_, 512);
    EXPECT_EQ(encode_sequence(back), encode_sequence(before_));
}

TEST_P(KeptOn, EachFoldGivesBackWhatStoodBeforeIt) {
    fold(4, &kept_);
    go_on();
    const SequenceState longer = testing::snapshot_of(ctx_.get());
    const CompactReport second = fold(2, &kept_);
    ASSERT_LT(second.cells_after, second.cells_before);
    const SequenceState twice = testing::snapshot_of(ctx_.get());
    EXPECT_EQ(encode_sequence(take_back(kept_, longer.sections[0].cells.size())), encode_sequence(longer));
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, twice));
    const SequenceState all = take_back(kept_, 512);
    EXPECT_EQ(all.sections[0].cells.size(), kBegun + kMore);
    const int32_t first_end = kBegun - 32; // what was never folded a second time
    EXPECT_EQ(bytes_before(all, first_end - 32), bytes_before(before_, first_end - 32));
}

// What was folded is folded from what it was: as if the first fold had not been.
TEST_P(KeptOn, AFoldOfAFoldIsThatOfTheOriginals) {
    fold(2, &kept_);
    const SequenceState once = testing::snapshot_of(ctx_.get());
    const CompactReport report = fold(2, &kept_);
    EXPECT_EQ(report.cells_before, once.sections[0].cells.size());
    const SequenceState twice = testing::snapshot_of(ctx_.get());

    ASSERT_TRUE(write_sequence(ctx_.get(), 0, before_));
    CompactRequest request = testing::request_for(tokens_, 4, testing::quick_method());
    request.budget = exact_budget(kBegun, report.cells_after, 4, report.regions.tail.size());
    ASSERT_TRUE(compact_sequence(ctx_.get(), 0, request));
    EXPECT_EQ(encode_sequence(testing::snapshot_of(ctx_.get())), encode_sequence(twice));

    ASSERT_TRUE(write_sequence(ctx_.get(), 0, once)); // broken twin: the fold itself is folded
    fold(2, nullptr);
    EXPECT_NE(encode_sequence(testing::snapshot_of(ctx_.get())), encode_sequence(twice));
}

TEST_P(KeptOn, WhatIsFoldedElsewhereIsNotTakenBack) {
    fold(4, &kept_);
    const SequenceState ours = testing::snapshot_of(ctx_.get());
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, before_));
    CompactRequest request = testing::request_for(tokens_, 4, testing::quick_method());
    request.seed = 99;
    ASSERT_TRUE(compact_sequence(ctx_.get(), 0, request));
    const auto back = unfolded(testing::snapshot_of(ctx_.get()), kept_, 512);
    ASSERT_FALSE(back);
    EXPECT_EQ(back.error().code, ErrorCode::not_found);
    ASSERT_TRUE(write_sequence(ctx_.get(), 0, ours)); // restored, it finds its own
    EXPECT_EQ(encode_sequence(take_back(kept_, 512)), encode_sequence(before_));
}

INSTANTIATE_TEST_SUITE_P(Models, KeptOn,
                         ::testing::Values("mha", "mqa", "unequal_widths", "gemma3", "gemma3n", "qwen2vl",
                                           "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

} // namespace
} // namespace kvfold
