// One fold of a sequence that goes on: what it is planned to be made of, and what is kept of it.
#include "engine/compact.h"
#include "engine/fold_task.h"
#include "engine/policy.h"
#include "support/tiny_model.h"

namespace kvfold {
namespace {

// A sequence of 96 tokens that is folded to 24 cells, of which the originals are kept, and goes on for 64.
class FoldedOnce : public testing::TinySequence {
  protected:
    void SetUp() override {
        read(96);
        const llama_seq_id owner[] = {0};
        for (const llama_token token : tokens_)
            books_.decode(books_.end(0), token, owner);
        const auto first = prepare_fold(ctx_.get(), 0, testing::request_for(tokens_, 4, method_), books_);
        ASSERT_TRUE(first) << first.error().message;
        const auto folded = compact_state(model_.get(), (*first)->snapshot, (*first)->request);
        ASSERT_TRUE(folded) << folded.error().message;
        replaced_ = archived_fold(**first, *folded);
        ASSERT_TRUE(put_in_place(ctx_.get(), **first, folded->state, books_, replaced_));
        archive_.admit(replaced_);
        const std::vector<llama_token> more = testing::random_tokens(64);
        ASSERT_EQ(testing::decode(ctx_.get(), more, 96), 0);
        for (const llama_token token : more)
            books_.decode(books_.end(0), token, owner);
    }

    const Method method_ = testing::quick(methods::refine);
    Archive archive_{1 << 20};
    std::shared_ptr<ArchivedFold> replaced_;
    Books books_;
};

TEST_P(FoldedOnce, IsFoldedTogetherWithWhatIsNewWhereItsOriginalsServe) {
    const Foldable part = books_.foldable_of(0).front();
    EXPECT_EQ(part.originals, static_cast<size_t>(books_.fold_of(0).end));
    Policy policy;
    policy.keep_last = 8;
    const auto plan = plan_fold(part, policy, 128, /*urgent=*/true);
    ASSERT_TRUE(plan && plan->together);
    const auto prepared = [&](const Method& method) {
        CompactRequest request = testing::request_for({}, 4, method);
        request.budget = plan->budget;
        request.together = plan->together;
        auto task = prepare_fold(ctx_.get(), 0, std::move(request), books_);
        EXPECT_TRUE(task) << task.error().message;
        return *std::move(task);
    };
    EXPECT_EQ(prepared(method_)->snapshot.sections.front().cells.size(), 160u); // all that was ever read
    // A baseline would drop what was folded: it leaves it alone.
    const auto dropping = prepared(methods::keep_last);
    EXPECT_EQ(dropping->snapshot.sections.front().cells.size(), part.cells);
    EXPECT_GE(static_cast<size_t>(dropping->request.budget.keep_first), part.folded);
}

// What heads kept of a fold is known as long as it stands for it, and of a fold of originals anew.
TEST_P(FoldedOnce, TellsWhatItsHeadsKept) {
    const KeptKeys& first = replaced_->cells()->kept_keys;
    ASSERT_FALSE(first.empty());
    const auto archived_by = [&](CompactRequest request) {
        const auto task = prepare_fold(ctx_.get(), 0, std::move(request), books_);
        EXPECT_TRUE(task) << task.error().message;
        const auto folded = compact_state(model_.get(), (*task)->snapshot, (*task)->request);
        EXPECT_TRUE(folded) << folded.error().message;
        return archived_fold(**task, *folded)->cells()->kept_keys;
    };
    CompactRequest request = testing::request_for({}, 2, method_);
    request.budget.keep_first = 24; // what was folded stays as it is
    const KeptKeys both = archived_by(request);
    request.budget.keep_first = 4;
    const KeptKeys anew = archived_by(request);
    ASSERT_TRUE(both.size() == first.size() && anew.size() == first.size());
    for (size_t head = 0; head < first.size(); ++head) {
        EXPECT_TRUE(std::ranges::includes(both[head], first[head]));
        EXPECT_GT(both[head].back(), first[head].back());
        EXPECT_GT(anew[head].back(), first[head].back());
    }
    EXPECT_NE(anew, both);
}

INSTANTIATE_TEST_SUITE_P(Models, FoldedOnce, ::testing::Values("mha"),
                         [](const auto& info) { return std::string(info.param); });

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
    CompactRequest request = testing::request_for(tokens, 4, testing::quick_method());
    for (const bool is_awaited : {false, true}) {
        request.is_awaited = is_awaited;
        const auto task = prepare_fold(ctx.get(), 0, request, books);
        ASSERT_TRUE(task) << task.error().message;
        EXPECT_EQ((*task)->request.most_cells, is_awaited ? kFoldedTogether : kFoldedAtOnce);
    }
}

} // namespace
} // namespace kvfold
