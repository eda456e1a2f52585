#include "preload/journal.h"

#include <gtest/gtest.h>

namespace kvfold::preload {
namespace {

// Tokens that are generated one by one, `tok_s` a second.
void generate(Journal& journal, double tok_s, bool beside_a_fold, int tokens = 50) {
    for (int i = 0; i < tokens; ++i)
        journal.decoded(1, 1 / tok_s, /*generation=*/true, beside_a_fold, 100, 100);
}

Json newest_fold(const Journal& journal) { return journal.state(0)["folds"].back(); }

TEST(Journal, SpeedsBeforeAndAfterAFoldAreThoseBesideNone) {
    Journal journal;
    generate(journal, 40, false);
    generate(journal, 10, true); // the fold takes the processors
    journal.folded({}, 0);
    EXPECT_DOUBLE_EQ(newest_fold(journal)["decode_before_tok_s"], 40);
    EXPECT_DOUBLE_EQ(newest_fold(journal)["decode_after_tok_s"], 0); // nothing yet
    generate(journal, 80, false, 64);
    EXPECT_NEAR(newest_fold(journal)["decode_after_tok_s"], 80, 1e-6);
    generate(journal, 50, false, 200); // more and more cells
    generate(journal, 10, true);       // the next one
    EXPECT_NEAR(newest_fold(journal)["decode_after_tok_s"], 80, 1e-6);
    journal.folded({}, 0);
    EXPECT_NEAR(newest_fold(journal)["decode_before_tok_s"], 50, 1e-6);
    EXPECT_EQ(journal.state(0)["totals"]["folds"], 2);
}

TEST(Journal, AFoldThatFailedChangesNoSpeed) {
    Journal journal;
    generate(journal, 40, false);
    FoldRecord failed;
    failed.error = "no memory";
    journal.folded(std::move(failed), 0);
    generate(journal, 40, false);
    EXPECT_DOUBLE_EQ(newest_fold(journal)["decode_after_tok_s"], 0);
    EXPECT_EQ(journal.state(0)["totals"]["failures"], 1);
    generate(journal, 10, true); // another method is tried at once
    journal.folded({}, 0);
    EXPECT_NEAR(newest_fold(journal)["decode_before_tok_s"], 40, 1e-6);
}

TEST(Journal, PromptsHaveNoSpeed) {
    Journal journal;
    journal.decoded(512, 1, /*generation=*/false, false, 512, 512);
    const Json state = journal.state(512);
    EXPECT_DOUBLE_EQ(state["history"].back()["tok_s"], 0);
    EXPECT_EQ(state["totals"]["tokens_decoded"], 512);
}

} // namespace
} // namespace kvfold::preload
