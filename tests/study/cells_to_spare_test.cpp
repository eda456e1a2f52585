#include "study/study.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

// A cache whose cells stand at these positions.
SequenceState cache_at(const std::vector<llama_pos>& positions) {
    SequenceState state{{{}}, {}};
    for (const llama_pos pos : positions)
        state.sections.front().cells.push_back({.pos = pos});
    return state;
}

SequenceState full_cache(llama_pos cells) {
    std::vector<llama_pos> positions;
    for (llama_pos pos = 0; pos < cells; ++pos)
        positions.push_back(pos);
    return cache_at(positions);
}

Passage passage(size_t tokens, llama_pos first_pos) {
    return {std::vector<llama_token>(tokens, 1), first_pos};
}

TEST(CellsToSpare, APassageBehindTheSequenceTakesACellAToken) {
    EXPECT_EQ(cells_to_spare({passage(768, 1000)}, full_cache(1000)), 768u);
    EXPECT_EQ(cells_to_spare({passage(10, 1000)}, full_cache(1000)), 10u);
}

TEST(CellsToSpare, TheLongestPassageDecides) {
    EXPECT_EQ(cells_to_spare({passage(256, 1000), passage(700, 1000), passage(64, 1000)}, full_cache(1000)),
              700u);
}

// A window lets go of its cells only when a batch is through, so a batch is spared even where cells go first.
TEST(CellsToSpare, APassageThatRewindsTakesTheCellsThatItCutsOff) {
    EXPECT_EQ(cells_to_spare({passage(300, 700)}, full_cache(1000)), 300u);
    EXPECT_EQ(cells_to_spare({passage(768, 232)}, full_cache(1000)), kScratchBatch);
}

TEST(CellsToSpare, APassageThatRewindsIntoAFoldCutsOffFewerCellsThanItHasTokens) {
    std::vector<llama_pos> positions = {0, 1, 2, 3}; // 2000 positions, 100 cells
    for (llama_pos cell = 0; cell < 96; ++cell)
        positions.push_back(1999 - 20 * (95 - cell));
    const auto behind =
        std::count_if(positions.begin(), positions.end(), [](llama_pos pos) { return pos >= 1200; });
    EXPECT_EQ(cells_to_spare({passage(800, 1200)}, cache_at(positions)),
              800u - static_cast<uint32_t>(behind));
}

TEST(CellsToSpare, AWholeTextOnACompactSequenceTakesAllThatTheSequenceLacks) {
    EXPECT_EQ(cells_to_spare({passage(2000, 0)}, cache_at({0, 500, 1000, 1999})), 1996u);
    EXPECT_EQ(cells_to_spare({passage(2000, 0)}, full_cache(2000)), kScratchBatch);
}

TEST(CellsToSpare, NoPassageTakesNone) { EXPECT_EQ(cells_to_spare({}, full_cache(10)), 0u); }

} // namespace
} // namespace kvfold
