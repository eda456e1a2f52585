// Folds that are found again by the cells that they made.
#include "engine/kept_folds.h"
#include "engine/numbered_cells.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using testing::cells_of;
using testing::NumberedCells;
using testing::plain;
using testing::section_of;

constexpr size_t kPlenty = 1 << 20;

// What a sequence of 30 tokens became twice, and what came behind. Of the first ten the cell of position 7
// was kept.
struct FoldedTwice {
    KvSection before = section_of(plain(0, 20));
    NumberedCells made = {{9, 7}, {9, -2}};
    KvSection once = section_of(testing::joined_cells(made, plain(10, 20)));
    KvSection longer = section_of(testing::joined_cells(made, plain(10, 30)));
    KvSection twice = section_of(testing::joined_cells({{24, -3}}, plain(25, 30)));
    std::shared_ptr<ArchivedFold> first = replaced_between(before, once),
                                  second = replaced_between(longer, twice);
};

void add_both(KeptFolds& kept, const FoldedTwice& folds) {
    kept.add(fold_fingerprint(folds.once, 10), folds.first);
    kept.add(fold_fingerprint(folds.twice, 25), folds.second);
}

TEST(ReplacedBetween, IsWhatOneFoldTookAway) {
    const FoldedTwice folds;
    EXPECT_EQ(cells_of(folds.first->cells()->originals), plain(0, 10));
    EXPECT_EQ(folds.first->cells()->kept, (std::vector<uint32_t>{7}));
    EXPECT_EQ(count_replaced(*folds.first->cells()), 9u);
    EXPECT_EQ(replaced_originals(*folds.first->cells()), (std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 8, 9}));
    EXPECT_EQ(cells_of(folds.second->cells()->originals), plain(10, 25));
    EXPECT_EQ(cells_of(folds.second->cells()->folded), folds.made);
    EXPECT_TRUE(folds.second->cells()->kept.empty());
    EXPECT_EQ(replaced_between(folds.before, folds.before), nullptr);
}

TEST(KeptFolds, AreTakenBackOfWhateverTheySequenceHoldsBehind) {
    const FoldedTwice folds;
    KeptFolds kept(kPlenty);
    add_both(kept, folds);
    EXPECT_EQ(kept.bytes(), folds.first->bytes() + folds.second->bytes());
    EXPECT_EQ(kept.history(folds.once).first_cut(10), 0);
    EXPECT_EQ(kept.history(folds.twice).first_cut(25), 0);
    const SequenceState now{{section_of(testing::joined_cells({{24, -3}}, plain(25, 40)))}, {}};
    const auto back = unfolded(now, kept, 100);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(cells_of(back->sections.front()), plain(0, 40));
}

TEST(KeptFolds, ComeBackAsFarAsThereIsRoom) {
    const FoldedTwice folds;
    KeptFolds kept(kPlenty);
    add_both(kept, folds);
    const SequenceState now{{folds.twice}, {}};
    EXPECT_EQ(unfolded(now, kept, 30)->sections.front().cells.size(), 30u);
    EXPECT_EQ(cells_of(unfolded(now, kept, 29)->sections.front()), cells_of(folds.longer));
    EXPECT_EQ(cells_of(unfolded(now, kept, 22)->sections.front()), cells_of(folds.longer));
    const auto refused = unfolded(now, kept, 21);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(refused.error().message.find("22 cells"), std::string::npos) << refused.error().message;
}

TEST(KeptFolds, OfOtherSequencesAreNotFound) {
    const FoldedTwice folds;
    KeptFolds kept(kPlenty);
    add_both(kept, folds);
    for (const KvSection& other :
         {section_of(testing::joined_cells({{24, -4}}, plain(25, 30))), // other bytes
          section_of(testing::joined_cells({{23, -3}}, plain(25, 30))), // elsewhere
          section_of(testing::joined_cells({{24, -3}, {24, -3}}, plain(25, 30)))}) {
        const auto back = unfolded({{other}, {}}, kept, 100);
        ASSERT_FALSE(back);
        EXPECT_EQ(back.error().code, ErrorCode::not_found);
    }
    EXPECT_EQ(unfolded({{folds.before}, {}}, kept, 100).error().code, ErrorCode::invalid_argument);
}

// keep_last makes no cells: texts that begin alike and are as long leave the same ones in front.
TEST(KeptFolds, OfTextsThatBeginAlikeAreToldApart) {
    KeptFolds kept(kPlenty);
    const auto fold_of = [&](float first) { // cells with numbers from `first` on behind the common beginning
        NumberedCells text = plain(0, 4), tail;
        for (int32_t pos = 4; pos < 20; ++pos)
            (pos < 10 ? text : tail).push_back({pos, first + static_cast<float>(pos)});
        const KvSection before = section_of(testing::joined_cells(text, tail));
        const KvSection after = section_of(testing::joined_cells({{9, 0}, {9, 1}, {9, 2}, {9, 3}}, tail));
        const auto fold = replaced_between(before, after);
        EXPECT_FALSE(fold->cells()->made_cells);
        kept.add(fold_mark(after, 10, fold->cells()->made_cells), fold);
        return std::tuple(before, after, fold);
    };
    const auto [a, a_after, a_fold] = fold_of(100);
    const auto [b, b_after, b_fold] = fold_of(200);
    for (const auto& [before, after] : {std::pair(a, a_after), std::pair(b, b_after)})
        EXPECT_EQ(cells_of(unfolded({{after}, {}}, kept, 100)->sections.front()), cells_of(before));
    EXPECT_EQ(fold_fingerprint(a_after, 10), fold_fingerprint(b_after, 10)); // broken twin
    EXPECT_TRUE(FoldedTwice().first->cells()->made_cells);
}

TEST(KeptFolds, AreFoundInWhateverOrderTheirCellsStand) {
    const FoldedTwice folds;
    KeptFolds kept(kPlenty);
    add_both(kept, folds);
    const KvSection turned = section_of(testing::joined_cells(plain(10, 20), {{9, -2}, {9, 7}}));
    EXPECT_EQ(kept.history(turned).first_cut(10), 0);
}

TEST(KeptFolds, AFullArchiveLosesTheOldest) {
    const FoldedTwice folds;
    KeptFolds kept(folds.second->bytes());
    add_both(kept, folds);
    EXPECT_EQ(kept.history(folds.once).first_cut(10), 10);
    EXPECT_EQ(kept.history(folds.twice).first_cut(25), 10);
    EXPECT_EQ(cells_of(unfolded({{folds.twice}, {}}, kept, 100)->sections.front()), cells_of(folds.longer));
}

// A fold of what was folded, without anything new: the older folds are found behind it.
TEST(KeptFolds, AFoldOfAFoldAloneLeadsToTheOlderOnes) {
    const FoldedTwice folds;
    const KvSection smaller = section_of(testing::joined_cells({{9, -7}}, plain(10, 20)));
    KeptFolds kept(kPlenty);
    kept.add(fold_fingerprint(folds.once, 10), folds.first);
    kept.add(fold_fingerprint(smaller, 10), replaced_between(folds.once, smaller));
    EXPECT_EQ(cells_of(unfolded({{smaller}, {}}, kept, 100)->sections.front()), plain(0, 20));
}

} // namespace
} // namespace kvfold
