// No memory left at any point of a compaction is an error value, and the sequence is what it was.
#include "engine/failing_allocation.h"
#include "support/tiny_model.h"

#include <array>

namespace kvfold {
namespace {

using testing::Failing;

constexpr size_t kTokens = 80;

// As its table entry says, with fewer steps: how often a step is repeated shows nothing new here.
Method with_few_steps(const Method& method) {
    Method quick = method;
    quick.study.least_tokens = 64;
    quick.solve.refine_steps = std::min(quick.solve.refine_steps, 1);
    quick.chunk = std::min<size_t>(quick.chunk, kTokens / 3);
    return quick;
}

class NoMemory : public testing::TinySequence {
  protected:
    void SetUp() override {
        ASSERT_NO_FATAL_FAILURE(read(kTokens));
        bytes_ = testing::raw_state(ctx_.get());
    }

    struct Run {
        Result<CompactReport> report;
        testing::Allocations allocations;
    };
    Run compact(const Method& method, int threads, Failing how, size_t number) {
        CompactRequest request = testing::request_for(tokens_, 4, method);
        request.threads = threads;
        testing::fail_allocations(how, number);
        Result<CompactReport> report = compact_sequence(ctx_.get(), 0, request);
        return {std::move(report), testing::stop_failing()};
    }

    // Compacts with failures that begin at `runs` different allocations. Returns how often it failed.
    size_t fail_at_many(const Method& method, int threads, Failing how, size_t allocations, size_t runs) {
        size_t failures = 0;
        for (size_t run = 0; run < runs; ++run) {
            const size_t number = run * allocations / runs + run % 7; // not only those of one loop
            const Run done = compact(method, threads, how, number);
            if (done.report) { // what failed was not needed: a thread, a faster way
                EXPECT_EQ(how == Failing::from_then_on && done.allocations.failed > 0, false) << number;
                EXPECT_TRUE(write_sequence(ctx_.get(), 0, before_));
                continue;
            }
            ++failures;
            EXPECT_GT(done.allocations.failed, 0u) << done.report.error().message;
            EXPECT_EQ(done.report.error().code, ErrorCode::memory) << done.report.error().message;
            EXPECT_EQ(testing::raw_state(ctx_.get()), bytes_) << method.name << " at " << number;
        }
        return failures;
    }

    // At the allocations of one compaction, on one thread and on several.
    void expect_errors(const Method& method, std::span<const int> threads, size_t runs) {
        const Run whole = compact(method, 1, Failing::once, SIZE_MAX); // counts, nothing fails
        ASSERT_TRUE(whole.report) << whole.report.error().message;
        const std::vector<uint8_t> compacted = testing::raw_state(ctx_.get());
        ASSERT_TRUE(write_sequence(ctx_.get(), 0, before_));
        const size_t count = whole.allocations.counted;
        for (const int number : threads) {
            // The newest allocations may be llama.cpp's, behind which nothing of kvfold's is left to fail.
            EXPECT_GT(fail_at_many(method, number, Failing::once, count, runs), runs * 3 / 4);
            EXPECT_GT(fail_at_many(method, number, Failing::from_then_on, count, runs), runs * 3 / 4);
        }
        ASSERT_TRUE(compact(method, 1, Failing::none, 0).report); // afterwards all is well
        EXPECT_EQ(testing::raw_state(ctx_.get()), compacted) << method.name;
        ASSERT_TRUE(write_sequence(ctx_.get(), 0, before_));
    }

    std::vector<uint8_t> bytes_;
};

TEST_P(NoMemory, IsAnErrorWhereverItEndsAndTheSequenceIsWhatItWas) {
    expect_errors(with_few_steps(methods::refine), std::array{1, 3}, 16);
}

TEST_P(NoMemory, IsAnErrorOfEveryStrategyToo) {
    if (GetParam() != std::string("mha")) GTEST_SKIP() << "one model is enough";
    for (const Method* method : {&methods::on_policy, &methods::sequential_on_policy, &methods::nonuniform,
                                 &methods::self_study, &methods::chunked})
        expect_errors(with_few_steps(*method), std::array{1}, 8);
}

TEST_P(NoMemory, OfAProgressFunctionThatThrowsIsAnErrorToo) {
    for (const int after : {0, 1, 5, 40}) {
        for (const int threads : {1, 3}) {
            CompactRequest request = testing::request_for(tokens_, 4);
            request.threads = threads;
            std::atomic<int> calls = 0;
            request.progress = [&](Stage, float) -> bool {
                if (calls++ >= after) throw std::bad_alloc();
                return true;
            };
            const auto report = compact_sequence(ctx_.get(), 0, request);
            ASSERT_FALSE(report);
            EXPECT_EQ(report.error().code, ErrorCode::memory) << report.error().message;
            EXPECT_EQ(testing::raw_state(ctx_.get()), bytes_);
        }
    }
}

// A fold that may be made in chunks is: what fails once leaves more cells to fold than one study has.
TEST(NoMemoryForAll, IsEnoughForAFewCellsAtATime) {
    const testing::ModelPtr model = testing::tiny_model("mha");
    const testing::ContextPtr ctx = testing::make_context(model, {.n_ctx = 512});
    const std::vector<llama_token> tokens = testing::random_tokens(400);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    const SequenceState before = read_sequence(ctx.get(), 0).value();
    const Method method = with_few_steps(methods::refine);
    size_t counted = 0;
    const auto folded = [&](size_t most_cells, Failing how, size_t number) {
        CompactRequest request = testing::request_for(tokens, 4, method);
        request.most_cells = most_cells;
        testing::fail_allocations(how, number);
        auto compact = compact_state(model.get(), before, request);
        counted = testing::stop_failing().counted;
        return compact;
    };
    const auto in_halves = folded(200, Failing::once, SIZE_MAX);
    const auto at_once = folded(8192, Failing::once, SIZE_MAX); // counts, nothing fails
    ASSERT_TRUE(at_once && in_halves);
    const size_t midway = counted / 2;
    const auto after_failing = folded(8192, Failing::once, midway);
    ASSERT_TRUE(after_failing) << after_failing.error().message;
    EXPECT_EQ(after_failing->report.cells_after, at_once->report.cells_after);
    EXPECT_NE(encode_sequence(after_failing->state), encode_sequence(at_once->state));
    EXPECT_EQ(encode_sequence(after_failing->state), encode_sequence(in_halves->state));
    // Whoever did not ask for chunks is told, and so is everybody where nothing is left at all.
    EXPECT_EQ(folded(0, Failing::once, midway).error().code, ErrorCode::memory);
    EXPECT_EQ(folded(8192, Failing::from_then_on, midway).error().code, ErrorCode::memory);
}

// A sequence whose folds are kept is folded anew from many times as many cells as it has: all the same.
TEST(NoMemoryForAll, IsEnoughForTheOriginalsInPieces) {
    const testing::ModelPtr model = testing::tiny_model("mha");
    const testing::ContextPtr ctx = testing::make_context(model, {.n_ctx = 512});
    const std::vector<llama_token> tokens = testing::random_tokens(400);
    ASSERT_EQ(testing::decode(ctx.get(), tokens, 0), 0);
    const Method method = with_few_steps(methods::refine);
    KeptFolds kept(1 << 30);
    CompactRequest request = testing::request_for(tokens, 4, method);
    request.kept = &kept;
    ASSERT_TRUE(compact_sequence(ctx.get(), 0, request));
    const SequenceState once = read_sequence(ctx.get(), 0).value();
    request.budget.ratio = 2;
    const auto folded = [&](Failing how, size_t number) {
        EXPECT_TRUE(write_sequence(ctx.get(), 0, once));
        testing::fail_allocations(how, number);
        auto report = compact_sequence(ctx.get(), 0, request);
        return std::pair(std::move(report), testing::stop_failing().counted);
    };
    const auto [all, counted] = folded(Failing::once, SIZE_MAX); // counts, nothing fails
    ASSERT_TRUE(all) << all.error().message;
    for (const size_t number : {counted / 4, counted / 2}) {
        const auto [report, unused] = folded(Failing::once, number);
        ASSERT_TRUE(report) << report.error().message;
        EXPECT_EQ(report->cells_after, all->cells_after);
        EXPECT_GT(report->regions.region.size(), once.sections.front().cells.size()); // of originals
    }
}

INSTANTIATE_TEST_SUITE_P(Models, NoMemory, ::testing::Values("mha", "gemma3", "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

} // namespace
} // namespace kvfold
