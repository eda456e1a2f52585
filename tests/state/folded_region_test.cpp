// Where the folded part of a sequence ends, told from positions.
#include "state/folded_region.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

KvSection section_at(const std::vector<int32_t>& positions) {
    KvSection section;
    for (const int32_t pos : positions)
        section.cells.push_back({.pos = pos});
    return section;
}

void expect(const std::vector<int32_t>& positions, int32_t end, uint32_t cells) {
    const FoldedRegion region = folded_region(positions);
    EXPECT_EQ(region.end, end);
    EXPECT_EQ(region.cells, cells);
}

TEST(FoldedRegion, ASequenceFromItsFirstPositionOnHasNone) {
    expect({}, 0, 0);
    expect({0}, 0, 0);
    expect({0, 1, 2, 3}, 0, 0);
    expect({0, 1, 2, 2, 2, 2, 4, 5}, 0, 0); // an image of 2 x 2
}

TEST(FoldedRegion, IsWhatStandsAtAFirstPositionAboveZero) {
    expect({7, 7, 7, 8, 9}, 8, 3);
    expect({7}, 8, 1);
    expect({7, 7, 7, 8, 8, 8, 8, 10}, 8, 3); // an image behind it
}

TEST(FoldedRegion, ABeginningInFrontOfItIsGathered) {
    KvSection section = section_at({0, 1, 2, 7, 7, 8, 9});
    gather_before(section, 8);
    EXPECT_EQ(sorted_positions(section), (std::vector<int32_t>{7, 7, 7, 7, 7, 8, 9}));
}

TEST(FoldedRegion, PositionsAreSorted) {
    EXPECT_EQ(sorted_positions(section_at({9, 0, 4})), (std::vector<int32_t>{0, 4, 9}));
}

TEST(FirstPlainPosition, IsTheOneBehindTheCellAfterTheLastGap) {
    EXPECT_EQ(first_plain_position(section_at({})), 1);
    EXPECT_EQ(first_plain_position(section_at({0, 1, 2, 3})), 1);
    EXPECT_EQ(first_plain_position(section_at({7, 7, 7, 8, 9})), 8);
    EXPECT_EQ(first_plain_position(section_at({0, 1, 2, 7, 7, 8, 9})), 8); // a shared beginning that stays
    EXPECT_EQ(first_plain_position(section_at({3, 9, 4, 9, 3, 10})), 10);  // any order
}

} // namespace
} // namespace kvfold
