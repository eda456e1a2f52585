// Where a folded region lies, told from positions.
#include "state/folded_region.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

void expect(const std::vector<int32_t>& positions, int32_t begin, int32_t end, uint32_t cells) {
    const FoldedRegion region = folded_region(positions);
    EXPECT_EQ(region.begin, begin);
    EXPECT_EQ(region.end, end);
    EXPECT_EQ(region.cells, cells);
}

TEST(FoldedRegion, WithoutGapsThereIsNone) {
    expect({}, 0, 0, 0);
    expect({0}, 0, 0, 0);
    expect({0, 1, 2, 3}, 0, 0, 0);
    expect({70, 71, 72}, 0, 0, 0); // a sliding window has lost its beginning, not folded it
}

TEST(FoldedRegion, ReachesFromTheCellBeforeTheFirstGapToTheOneBehindTheLast) {
    expect({0, 1, 2, 3, 4, 20, 41, 63, 64, 65}, 4, 64, 4);
    expect({0, 1, 2, 3, 10, 11, 12, 20, 21, 22}, 3, 21, 5); // whole runs within it are its own
    expect({0, 1, 9}, 1, 10, 2);
}

TEST(FoldedRegion, TheFirstCellNeverBelongsToIt) {
    expect({0, 9, 10}, 1, 10, 1);
    expect({0, 5, 9, 10}, 1, 10, 2);
}

TEST(FoldedRegion, CellsOfAnImageAtOnePositionAreNoGapAndAllCount) {
    expect({0, 1, 2, 2, 2, 3, 4}, 0, 0, 0);
    expect({0, 1, 2, 2, 2, 9, 9, 10}, 2, 10, 5);
}

TEST(FoldedRegion, PositionsAreSorted) {
    KvSection section;
    section.cells.resize(3);
    section.cells[0].pos = 9;
    section.cells[1].pos = 0;
    section.cells[2].pos = 4;
    EXPECT_EQ(sorted_positions(section), (std::vector<int32_t>{0, 4, 9}));
}

} // namespace
} // namespace kvfold
