// What stands where once a region is folded.
#include "fit/join_cells.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

SequenceState sequence_at(const std::vector<int32_t>& positions) {
    SequenceState state;
    state.sections.emplace_back();
    for (const int32_t pos : positions)
        state.sections[0].cells.push_back({.pos = pos});
    return state;
}

std::vector<int32_t> upto(int32_t end) {
    std::vector<int32_t> positions;
    for (int32_t pos = 0; pos < end; ++pos)
        positions.push_back(pos);
    return positions;
}

std::vector<int32_t> positions_after(const SequenceState& state, const Budget& budget, Keep keep) {
    const auto regions = plan_regions(state.sections[0], budget, keep);
    EXPECT_TRUE(regions) << regions.error().message;
    std::vector<int32_t> positions;
    Solution folded;
    if (keep == Keep::fit) folded.slots = regions->folded;
    const SequenceState compact = join_cells(state, *regions, folded);
    for (const CellMeta& cell : compact.sections[0].cells)
        positions.push_back(cell.pos);
    return positions;
}

using Positions = std::vector<int32_t>;

TEST(JoinCells, AllBeforeTheTailStandsAtTheLastPositionBeforeIt) {
    EXPECT_EQ(
        positions_after(sequence_at(upto(20)), {.ratio = 2, .keep_first = 2, .keep_last = 3}, Keep::fit),
        (Positions{16, 16, 16, 16, 16, 16, 16, 17, 18, 19}));
}

TEST(JoinCells, CellsThatAreDroppedLeaveNoGap) {
    const SequenceState state = sequence_at(upto(20));
    EXPECT_EQ(positions_after(state, {.ratio = 4, .keep_first = 2}, Keep::newest),
              (Positions{16, 16, 17, 18, 19}));
    EXPECT_EQ(positions_after(state, {.ratio = 4, .keep_first = 2}, Keep::oldest),
              (Positions{18, 18, 18, 18, 19}));
}

TEST(JoinCells, CellsThatOtherSequencesOwnKeepTheirPositions) {
    EXPECT_EQ(positions_after(sequence_at(upto(20)),
                              {.ratio = 2, .keep_first = 4, .keep_last = 3, .untouched = 3}, Keep::fit),
              (Positions{0, 1, 2, 16, 16, 16, 16, 17, 18, 19}));
}

TEST(JoinCells, AnOlderFoldGoesAlong) {
    Positions positions(6, 9); // ten tokens in six cells
    for (int32_t pos = 10; pos < 24; ++pos)
        positions.push_back(pos);
    EXPECT_EQ(
        positions_after(sequence_at(positions), {.ratio = 2, .keep_first = 6, .keep_last = 2}, Keep::fit),
        (Positions{21, 21, 21, 21, 21, 21, 21, 21, 22, 23}));
}

TEST(JoinCells, WhatIsNotFoldedStaysWhereItIs) {
    EXPECT_EQ(positions_after(sequence_at(upto(6)), {.ratio = 1}, Keep::fit), upto(6));
}

} // namespace
} // namespace kvfold
