#include "study/read_passages.h"

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

uint32_t cells_to_spare(const std::vector<Passage>& passages, const SequenceState& cache) {
    return room_to_read(passages, cache, {}).cells;
}

TEST(RoomToRead, APassageBehindTheSequenceTakesACellAToken) {
    EXPECT_EQ(cells_to_spare({passage(768, 1000)}, full_cache(1000)), 768u);
    EXPECT_EQ(cells_to_spare({passage(10, 1000)}, full_cache(1000)), 10u);
}

TEST(RoomToRead, TheLongestPassageDecides) {
    EXPECT_EQ(cells_to_spare({passage(256, 1000), passage(700, 1000), passage(64, 1000)}, full_cache(1000)),
              700u);
}

// A window lets go of its cells only when a batch is through, so a batch is spared even where cells go first.
TEST(RoomToRead, APassageThatRewindsTakesTheCellsThatItCutsOff) {
    EXPECT_EQ(cells_to_spare({passage(300, 700)}, full_cache(1000)), 300u);
    EXPECT_EQ(cells_to_spare({passage(768, 232)}, full_cache(1000)), kScratchBatch);
}

TEST(RoomToRead, APassageThatRewindsIntoAFoldCutsOffFewerCellsThanItHasTokens) {
    std::vector<llama_pos> positions = {0, 1, 2, 3}; // 2000 positions, 100 cells
    for (llama_pos cell = 0; cell < 96; ++cell)
        positions.push_back(1999 - 20 * (95 - cell));
    const auto behind =
        std::count_if(positions.begin(), positions.end(), [](llama_pos pos) { return pos >= 1200; });
    EXPECT_EQ(cells_to_spare({passage(800, 1200)}, cache_at(positions)),
              800u - static_cast<uint32_t>(behind));
}

TEST(RoomToRead, AWholeTextOnACompactSequenceTakesAllThatTheSequenceLacks) {
    EXPECT_EQ(cells_to_spare({passage(2000, 0)}, cache_at({0, 500, 1000, 1999})), 1996u);
    EXPECT_EQ(cells_to_spare({passage(2000, 0)}, full_cache(2000)), kScratchBatch);
}

TEST(RoomToRead, NoPassageTakesNone) { EXPECT_EQ(cells_to_spare({}, full_cache(10)), 0u); }

TEST(RoomToRead, ShortPassagesBehindTheSequenceAreReadTogether) {
    const SequenceState cache = full_cache(1000);
    const auto room = [&](const std::vector<Passage>& passages, const AttentionMap& map = {}) {
        const ReadingRoom room = room_to_read(passages, cache, map);
        return std::pair(room.cells, room.sequences);
    };
    using Room = std::pair<uint32_t, uint32_t>;
    const Passage behind = passage(128, 1000), newest = passage(128, 872);
    EXPECT_EQ(room({behind}), Room(128, 1));
    EXPECT_EQ(room({behind, behind, behind}), Room(384, 4));
    EXPECT_EQ(room({behind, behind, behind, behind, behind}), Room(512, 5)); // a batch, and one alone
    EXPECT_EQ(room({newest, newest}), Room(128, 1));                         // they go back
    EXPECT_EQ(room({behind, newest, behind}), Room(128, 1));                 // in the order given
    EXPECT_EQ(room({behind, behind}, {.layers = {}, .has_recurrent = true}), Room(128, 1));
    EXPECT_EQ(room(std::vector<Passage>(20, passage(4, 1000))), Room(32, 9)); // eight at a time
}

} // namespace
} // namespace kvfold
