// The scratch context on real models: what is decoded there never leaves a trace. Its state is its own; the
// queries of a passage show whether it is what it was.
#include "state/folded_region.h"
#include "study/scratch.h"

#include "study/model_sequence.h"
#include "study/read_passages.h"
#include "study/study.h"

namespace kvfold {
namespace {

using Tokens = std::vector<llama_token>;

constexpr Index kPassage = 40;

class ScratchOn : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        studied_ = testing::studied_model(GetParam());
        ASSERT_FALSE(studied_.map.layers.empty());
        tap_ = std::make_unique<QueryTap>(studied_.map.layers, 2000);
    }

    void prefill_context(size_t count) {
        const auto length = static_cast<std::ptrdiff_t>(count);
        const Tokens tokens = testing::filler_tokens(studied_.model.get(), count + kPassage);
        context_.assign(tokens.begin(), tokens.begin() + length);
        passage_.assign(tokens.begin() + length, tokens.begin() + length + kPassage);
        const testing::ContextPtr ctx = testing::make_context(studied_.model);
        ASSERT_TRUE(ctx);
        ASSERT_EQ(testing::decode(ctx.get(), context_, 0), 0);
        snapshot_ = testing::snapshot_of(ctx.get());
    }

    Result<Scratch> open(const SequenceState& snapshot, const ProgressFn& progress = {}) {
        return Scratch::open(studied_.model.get(), studied_.map, snapshot, testing::scratch_params(),
                             tap_.get(), progress);
    }

    llama_pos end() const { return static_cast<llama_pos>(context_.size()); }
    Index after_context() const { return static_cast<Index>(context_.size()); }

    testing::StudiedModel studied_;
    Tokens context_, passage_;
    SequenceState snapshot_;
    std::unique_ptr<QueryTap> tap_;
};

TEST_P(ScratchOn, RewindingPutsTheSequenceBack) {
    prefill_context(studied_.map.has_window ? 600 : 200); // above the window of Gemma 3 (512)
    auto scratch = open(snapshot_);
    ASSERT_TRUE(scratch) << scratch.error().message;
    EXPECT_EQ(scratch->end(), end());

    Tokens changed = passage_;
    changed[10] = passage_[10] == 100 ? 101 : 100;
    const auto read = [&](const Tokens& tokens, llama_pos first_pos) {
        const Status status = scratch->prefill(tokens, first_pos);
        EXPECT_TRUE(status) << status.error().message;
    };
    // Each step: something else happens, rewind, the passage again.
    ASSERT_TRUE(scratch->rewind());
    read(passage_, end());
    ASSERT_TRUE(scratch->rewind());
    read(changed, end());
    ASSERT_TRUE(scratch->rewind());
    read(passage_, end()); // after another passage
    ASSERT_TRUE(scratch->rewind_to(end() - 20));
    read(Tokens(context_.end() - 20, context_.end()), end() - 20);
    ASSERT_TRUE(scratch->rewind());
    read(passage_, end()); // after cells of the snapshot were replaced
    ASSERT_TRUE(scratch->rewind_to(0));
    read(context_, 0);
    ASSERT_TRUE(scratch->rewind());
    read(passage_, end()); // after all of them were

    const Study study = tap_->take();
    const Index n = kPassage, all = after_context();
    ASSERT_EQ(study.tokens(), 5 * n + 20 + all);
    const auto first = testing::rows_of(study, 0, n);
    for (const Index again : {2 * n, 3 * n + 20, 4 * n + 20 + all})
        EXPECT_EQ(testing::worst_distance(first, testing::rows_of(study, again, n)), 0)
            << "rows from " << again;

    // Broken twin: one other token is seen, from where it stands on.
    EXPECT_EQ(testing::worst_distance(testing::rows_of(study, 0, 10), testing::rows_of(study, n, 10)), 0);
    EXPECT_GT(
        testing::worst_distance(testing::rows_of(study, 11, n - 11), testing::rows_of(study, n + 11, n - 11)),
        1e-2);
}

TEST_P(ScratchOn, PassagesAreReadBehindAFoldAndInItsTail) {
    prefill_context(150);
    // As folding leaves them: fewer cells, all at the last position before the tail.
    constexpr int32_t kLast = 119;
    KvSection& section = snapshot_.sections[0];
    std::vector<uint32_t> kept;
    for (uint32_t i = 0; i < section.cells.size(); ++i) {
        if (section.cells[i].pos > kLast || i % 3 == 0) kept.push_back(i);
    }
    section = take_cells(section, kept);
    for (CellMeta& cell : section.cells)
        cell.pos = std::max(cell.pos, kLast);
    ASSERT_EQ(first_plain_position(section), kLast + 1);
    auto scratch = open(snapshot_);
    ASSERT_TRUE(scratch) << scratch.error().message;
    ASSERT_TRUE(scratch->prefill(passage_, end()));
    for (const llama_pos back : {1, 2, 3, 30}) {
        ASSERT_TRUE(scratch->rewind_to(end() - back));
        const Status status = scratch->prefill(Tokens(context_.end() - back, context_.end()), end() - back);
        EXPECT_TRUE(status) << back << " back: " << status.error().message;
    }
    ASSERT_TRUE(scratch->rewind());
    ASSERT_TRUE(scratch->prefill(passage_, end()));
    const Study study = tap_->take();
    ASSERT_EQ(study.tokens(), 2 * kPassage + 36);
    EXPECT_EQ(testing::worst_distance(testing::rows_of(study, 0, kPassage),
                                      testing::rows_of(study, kPassage + 36, kPassage)),
              0);
}

TEST_P(ScratchOn, TransposedValuesAreReadAsWellAsRows) {
    prefill_context(150);
    // A context without flash attention keeps values so; the scratch context always has it.
    SequenceState transposed = snapshot_, damaged = snapshot_;
    for (KvSection& section : transposed.sections) {
        for (CacheTensor& values : section.values)
            values = from_float(to_float(values), values.type, /*transposed=*/true).value();
    }
    for (CacheTensor& values : damaged.sections[0].values) // broken twin: values of the wrong cells
        std::rotate(values.bytes.begin(),
                    values.bytes.begin() + static_cast<std::ptrdiff_t>(values.row_bytes()),
                    values.bytes.end());
    for (const SequenceState* state : {&snapshot_, &transposed, &damaged}) {
        auto scratch = open(*state);
        ASSERT_TRUE(scratch) << scratch.error().message;
        ASSERT_TRUE(scratch->prefill(passage_, end()));
    }
    const Study study = tap_->take();
    const auto rows = [&](Index run) { return testing::rows_of(study, run * kPassage, kPassage); };
    EXPECT_EQ(testing::worst_distance(rows(0), rows(1)), 0);
    EXPECT_GT(testing::worst_distance(rows(0), rows(2)), 1e-2);
}

TEST_P(ScratchOn, CancellingStopsBetweenGraphNodes) {
    prefill_context(150);
    int calls = 0, allowed = 0;
    auto scratch = open(snapshot_, [&](Stage, float) { return ++calls <= allowed; });
    ASSERT_TRUE(scratch) << scratch.error().message;
    for (const int limit : {0, 1, 2, 40}) {
        ASSERT_TRUE(scratch->rewind());
        calls = 0;
        allowed = limit;
        const Status status = scratch->prefill(passage_, end());
        ASSERT_FALSE(status) << limit;
        EXPECT_EQ(status.error().code, ErrorCode::cancelled);
        EXPECT_EQ(calls, limit + 1); // a graph has many nodes: none more is computed

        ASSERT_TRUE(scratch->rewind());
        calls = 0;
        const Status listened = scratch->listen(std::array{BatchToken{passage_.front(), end(), 0, true}});
        ASSERT_FALSE(listened) << limit;
        EXPECT_EQ(listened.error().code, ErrorCode::cancelled);
        EXPECT_EQ(calls, limit + 1);
    }
    EXPECT_EQ(scratch->report(Stage::study, 0.5f).error().code, ErrorCode::cancelled);

    // What was cancelled can be done again.
    allowed = 1 << 30;
    ASSERT_TRUE(scratch->report(Stage::study, 0.5f));
    ASSERT_TRUE(scratch->rewind());
    EXPECT_TRUE(scratch->prefill(passage_, end()));
}

// Side by side as one after the other: the same text, positions and cache, in another batch.
TEST_P(ScratchOn, PassagesAreReadTogetherAsAlone) {
    prefill_context(studied_.map.has_window ? 600 : 200);
    const auto tokens = [&](ptrdiff_t first, ptrdiff_t count) {
        return Tokens(context_.begin() + first, context_.begin() + first + count);
    };
    std::vector<Passage> passages = {{passage_, end()}, {tokens(30, 70), end()}, {tokens(10, 50), end()}};
    const auto read = [&](std::span<const Passage> some) {
        ScratchParams params = testing::scratch_params();
        params.sequences = room_to_read(passages, snapshot_, studied_.map).sequences;
        auto scratch = Scratch::open(studied_.model.get(), studied_.map, snapshot_, params, tap_.get(), {});
        ASSERT_TRUE(scratch) << scratch.error().message;
        const Status status = read_passages(*scratch, some, studied_.map);
        ASSERT_TRUE(status) << status.error().message;
    };
    read(passages);
    for (const Passage& passage : passages)
        read(std::span(&passage, 1));
    std::swap(passages[1].tokens[3], passages[1].tokens[7]);
    read(passages);

    const Study study = tap_->take();
    const Index all = count_tokens(passages);
    ASSERT_EQ(study.tokens(), 3 * all);
    const auto together = testing::rows_of(study, 0, all);
    EXPECT_LT(testing::worst_distance(together, testing::rows_of(study, all, all)), 2e-2); // sums of halves
    // Broken twin: two tokens of the second have changed places, and the others are as before.
    const auto changed = [&](Index first, Index count) {
        return testing::worst_distance(testing::rows_of(study, first, count),
                                       testing::rows_of(study, 2 * all + first, count));
    };
    EXPECT_LT(changed(0, kPassage), 2e-2);
    EXPECT_GT(changed(kPassage + 3, 60), 0.1);
    EXPECT_LT(changed(kPassage + 70, 50), 2e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, ScratchOn, ::testing::Values("KVFOLD_PLAIN_MODEL", "KVFOLD_WINDOW_MODEL"),
                         [](const auto& info) { return std::string(info.param + sizeof "KVFOLD"); });

TEST(Scratch, PassagesOfAPlanAreReadWhereTheyStand) {
    const testing::StudiedModel studied = testing::studied_model("KVFOLD_PLAIN_MODEL");
    const testing::ContextPtr ctx = testing::make_context(studied.model);
    const Tokens context = testing::filler_tokens(studied.model.get(), 120);
    ASSERT_EQ(testing::decode(ctx.get(), context, 0), 0);
    const StudyPlan plan{
        .parts = {
            {Source::tail, 0.2f}, {Source::pseudo, 0.3f}, {Source::prefill, 1}, {Source::repeat, 0.2f}}};
    const Pieces no_pieces = [](llama_token) { return std::string(); };
    std::mt19937_64 rng(1);
    const auto passages =
        plan_passages(plan, context, {context.size(), context.size()}, /*back_to=*/1, no_pieces, rng);

    const SequenceState snapshot = testing::snapshot_of(ctx.get());
    std::vector<float> progress;
    QueryTap tap(studied.map.layers, count_tokens(passages));
    auto scratch = Scratch::open(studied.model.get(), studied.map, snapshot, testing::scratch_params(), &tap,
                                 [&](Stage stage, float done) {
                                     EXPECT_EQ(stage, Stage::study);
                                     progress.push_back(done);
                                     return true;
                                 });
    ASSERT_TRUE(scratch) << scratch.error().message;
    const Status status = read_passages(*scratch, passages, studied.map);
    ASSERT_TRUE(status) << status.error().message;
    EXPECT_TRUE(std::is_sorted(progress.begin(), progress.end()));
    EXPECT_LE(progress.back(), 1);
    const Study study = tap.take();
    EXPECT_EQ(study.tokens(), count_tokens(passages));
    for (const LayerQueries& layer : study.layers)
        EXPECT_TRUE(layer.rows.allFinite());

    // The tail is read where the prefill reads it: rows 0.. of the one, 24 from the end of the other. Another
    // order of summation, f16: far below the distance between two tokens.
    const Index tail = 24, prefill_end = 24 + 36 + 120;
    ASSERT_EQ(passages[0].tokens.size(), 24u);
    EXPECT_LT(testing::worst_distance(testing::rows_of(study, 0, tail),
                                      testing::rows_of(study, prefill_end - tail, tail)),
              2e-2);
    EXPECT_GT(testing::worst_distance(testing::rows_of(study, 0, tail),
                                      testing::rows_of(study, prefill_end - tail - 1, tail)),
              0.2); // one off
}

} // namespace
} // namespace kvfold
