// What folds replaced, on cells that hold their own position.
#include "engine/archive.h"
#include "engine/numbered_cells.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using testing::cells_of;
using testing::joined_cells;
using testing::NumberedCells;
using testing::plain;
using testing::section_of;

const NumberedCells kFolded = {{3, -1}, {3, -2}}; // of positions 0 to 3

// Of a sequence that was folded up to position 3, and now up to 7.
ReplacedCells second_fold() {
    return replaced_cells(section_of(joined_cells(kFolded, plain(4, 10))), /*begin=*/4, /*last=*/7);
}

std::shared_ptr<ArchivedFold> fold_of(int32_t begin, int32_t end) {
    return std::make_shared<ArchivedFold>(replaced_cells(section_of(plain(begin, end)), begin, end - 1));
}

TEST(ReplacedCells, AreEarlierFoldsAndOriginals) {
    const ReplacedCells cells = second_fold();
    EXPECT_EQ(cells.end, 8);
    EXPECT_EQ(cells_of(cells.folded), kFolded);
    EXPECT_EQ(cells_of(cells.originals), plain(4, 8));
}

TEST(ReplacedCells, StandAgainBeforeACut) {
    const SequenceState now{{section_of({{7, -3}, {8, 8}, {9, 9}})}, {}};
    EXPECT_EQ(cells_of(cut_back(now, second_fold(), 6).sections.front()), joined_cells(kFolded, plain(4, 6)));
    EXPECT_EQ(cells_of(cut_back(now, second_fold(), 4).sections.front()), kFolded);
}

TEST(ReplacedCells, StandAgainBeforeWhatCameSince) {
    const SequenceState now{{section_of({{9, 9}, {7, -3}, {8, 8}})}, {}};
    EXPECT_EQ(cells_of(unfolded(now, second_fold()).sections.front()), joined_cells(kFolded, plain(4, 10)));
}

TEST(FoldHistory, FindsTheFoldThatHoldsAPosition) {
    FoldHistory history;
    history.add(fold_of(0, 10));
    history.add(fold_of(10, 20));
    history.add(nullptr);
    EXPECT_EQ(history.at(0)->end, 10);
    EXPECT_EQ(history.at(9)->end, 10);
    EXPECT_EQ(history.at(10)->end, 20);
    EXPECT_EQ(history.at(20), nullptr);
    EXPECT_EQ(history.first_cut(20), 0);
    EXPECT_EQ(history.first_cut(25), 25); // a fold that is not here
    EXPECT_EQ(cells_of(history.all(20)->originals), plain(0, 20));
    EXPECT_FALSE(history.all(25));
}

TEST(FoldHistory, LosesFoldsThatEndBehindACut) {
    FoldHistory history;
    history.add(fold_of(0, 10));
    history.add(fold_of(10, 20));
    history.cut(15);
    EXPECT_EQ(history.at(12), nullptr);
    EXPECT_EQ(history.first_cut(10), 0);
    history.add(fold_of(8, 30)); // overlaps
    EXPECT_EQ(history.at(5), nullptr);
    EXPECT_EQ(history.first_cut(30), 8);
}

TEST(FoldHistory, ReachesBackToAFoldThatLostItsCells) {
    const auto first = fold_of(0, 10), second = fold_of(10, 20), third = fold_of(20, 30);
    Archive archive(second->bytes() + third->bytes());
    FoldHistory history;
    for (const auto& fold : {first, second, third}) {
        archive.admit(fold);
        history.add(fold);
    }
    EXPECT_EQ(archive.bytes(), archive.budget());
    EXPECT_EQ(history.at(5), nullptr);
    EXPECT_EQ(history.first_cut(30), 10);
    EXPECT_EQ(cells_of(history.all(30)->originals), plain(10, 30));
}

TEST(Archive, CountsWhatSomebodyHolds) {
    Archive archive(1 << 20);
    auto fold = fold_of(0, 10);
    archive.admit(fold);
    const auto cells = fold->cells(); // whoever works with them
    EXPECT_EQ(archive.bytes(), fold->bytes());
    fold.reset();
    EXPECT_EQ(archive.bytes(), 0u);
    EXPECT_EQ(cells_of(cells->originals), plain(0, 10));
}

TEST(Archive, AFoldLargerThanTheBudgetTakesNothingFromOthers) {
    const auto small = fold_of(0, 10), large = fold_of(10, 100);
    Archive archive(2 * small->bytes());
    archive.admit(small);
    archive.admit(large);
    EXPECT_EQ(large->cells(), nullptr);
    EXPECT_NE(small->cells(), nullptr);
    Archive none(0);
    none.admit(small);
    EXPECT_EQ(small->cells(), nullptr);
}

} // namespace
} // namespace kvfold
