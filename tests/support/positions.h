// Where the cells of a folded sequence stand.
#pragma once

#include "state/folded_region.h"

#include <gtest/gtest.h>

namespace kvfold::testing {

// All but the newest `tail` cells stand at the last position before these, which go on from there to end - 1.
inline void expect_stands_together_before(size_t tail, int32_t end, const KvSection& section) {
    const std::vector<int32_t> positions = sorted_positions(section);
    ASSERT_GT(positions.size(), tail);
    const FoldedRegion folded = folded_region(positions);
    EXPECT_EQ(folded.cells, positions.size() - tail);
    EXPECT_EQ(folded.end, end - static_cast<int32_t>(tail));
    for (size_t i = 0; i < tail; ++i)
        ASSERT_EQ(positions[positions.size() - tail + i], folded.end + static_cast<int32_t>(i));
}

} // namespace kvfold::testing
