// Which cells a budget keeps, folds and drops.
#include "fit/regions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

namespace kvfold {
namespace {

constexpr auto kFit = Keep::fit;

KvSection cells_at(const std::vector<int32_t>& positions) {
    KvSection section;
    for (const int32_t pos : positions)
        section.cells.push_back({.pos = pos});
    return section;
}

KvSection sequence_of(size_t cells) {
    std::vector<int32_t> positions(cells);
    std::iota(positions.begin(), positions.end(), 0);
    return cells_at(positions);
}

Regions planned(const KvSection& section, const Budget& budget, Keep keep = kFit) {
    auto regions = plan_regions(section, budget, keep);
    EXPECT_TRUE(regions) << regions.error().message;
    return regions ? *std::move(regions) : Regions{};
}

std::string refusal(const KvSection& section, const Budget& budget, Keep keep = kFit) {
    const auto regions = plan_regions(section, budget, keep);
    if (regions) return "not refused";
    EXPECT_EQ(regions.error().code, ErrorCode::invalid_argument);
    return regions.error().message;
}

std::vector<uint32_t> joined(const Regions& regions) {
    std::vector<uint32_t> all = regions.head;
    all.insert(all.end(), regions.region.begin(), regions.region.end());
    all.insert(all.end(), regions.tail.begin(), regions.tail.end());
    return all;
}

TEST(Regions, CountHeadAndTailAgainstTheRatio) {
    for (const Keep keep : {kFit, Keep::newest, Keep::oldest}) {
        for (const size_t cells : {100u, 333u, 1000u, 2048u}) {
            for (const double ratio : {1.05, 1.5, 2.0, 4.0, 7.3, 10.0}) {
                const Regions regions = planned(sequence_of(cells), {.ratio = ratio}, keep);
                const auto wanted = std::llround(static_cast<double>(cells) / ratio);
                EXPECT_EQ(regions.cells_after(), static_cast<size_t>(wanted)) << cells << " at " << ratio;
                EXPECT_EQ(joined(regions).size(), cells); // every cell has a place
            }
        }
    }
}

TEST(Regions, KeepTheNewest32CellsOrAnEighthOfWhatIsLeft) {
    const Regions wide = planned(sequence_of(4000), {.ratio = 8, .keep_first = 4});
    EXPECT_EQ(wide.head.size(), 4u);
    EXPECT_EQ(wide.tail.size(), 32u);
    EXPECT_EQ(wide.folded, 500u - 4 - 32);
    EXPECT_EQ(wide.region.size(), 4000u - 4 - 32);

    const Regions narrow = planned(sequence_of(800), {.ratio = 8, .keep_first = 4});
    EXPECT_EQ(narrow.tail.size(), (100u - 4) / 8);
    EXPECT_EQ(narrow.folded, 100u - 4 - 12);
}

TEST(Regions, KeepTheHeadAndTailAskedFor) {
    const Regions regions = planned(sequence_of(800), {.ratio = 8, .keep_first = 30, .keep_last = 50});
    EXPECT_EQ(regions.head.size(), 30u);
    EXPECT_EQ(regions.head.front(), 0u);
    EXPECT_EQ(regions.head.back(), 29u);
    EXPECT_EQ(regions.tail.size(), 50u);
    EXPECT_EQ(regions.tail.front(), 750u);
    EXPECT_EQ(regions.tail.back(), 799u);
    EXPECT_EQ(regions.folded, 20u);
    EXPECT_EQ(planned(sequence_of(800), {.ratio = 8, .keep_last = 0}).tail.size(), 0u);
}

TEST(Regions, ThatDoNotFitAreRefusedWithWhatToDo) {
    const std::string tail = refusal(sequence_of(800), {.ratio = 8, .keep_first = 4, .keep_last = 96});
    EXPECT_NE(tail.find("keep_last 96"), std::string::npos) << tail;
    EXPECT_NE(tail.find("100 of 800"), std::string::npos) << tail;
    EXPECT_NE(tail.find("lower the ratio"), std::string::npos) << tail;
    EXPECT_EQ(planned(sequence_of(800), {.ratio = 8, .keep_first = 4, .keep_last = 95}).folded, 1u);

    const std::string head = refusal(sequence_of(800), {.ratio = 8, .keep_first = 99});
    EXPECT_NE(head.find("keep_first 99"), std::string::npos) << head;
    EXPECT_NE(head.find("lower"), std::string::npos) << head;
    EXPECT_NE(refusal(sequence_of(3), {.ratio = 2}), "not refused");
    EXPECT_NE(refusal(sequence_of(800), {.ratio = 8, .keep_first = std::numeric_limits<int>::max()}),
              "not refused");
    EXPECT_NE(refusal(sequence_of(800), {.ratio = 8, .keep_last = std::numeric_limits<int>::max()}),
              "not refused");
}

TEST(Regions, OfSenselessBudgetsAreRefused) {
    const KvSection section = sequence_of(800);
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    for (const double ratio : {0.99, 0.0, -8.0, kInfinity, -kInfinity, std::nan("")}) {
        EXPECT_NE(refusal(section, {.ratio = ratio}).find("ratio"), std::string::npos) << ratio;
    }
    EXPECT_NE(refusal(section, {.ratio = 1e300}), "not refused");
    for (const int keep_first : {0, -1, std::numeric_limits<int>::min()})
        EXPECT_NE(refusal(section, {.keep_first = keep_first}).find("keep_first"), std::string::npos);
    for (const int keep_last : {-2, std::numeric_limits<int>::min()})
        EXPECT_NE(refusal(section, {.keep_last = keep_last}).find("keep_last"), std::string::npos);
}

TEST(Regions, OfRatioOneKeepEverything) {
    for (const Keep keep : {kFit, Keep::newest, Keep::oldest, Keep::random}) {
        const Regions regions = planned(sequence_of(50), {.ratio = 1}, keep);
        EXPECT_EQ(regions.cells_after(), 50u);
        EXPECT_EQ(regions.folded, 0u);
        EXPECT_TRUE(regions.region.empty());
    }
    EXPECT_EQ(planned(sequence_of(10), {.ratio = 1.01}).cells_after(), 10u); // rounds to all of them
}

TEST(Regions, GoByPositionNotByOrderInTheCache) {
    std::vector<int32_t> positions(200);
    std::iota(positions.begin(), positions.end(), 0);
    std::shuffle(positions.begin(), positions.end(), std::mt19937(5));
    for (const Keep keep : {kFit, Keep::newest, Keep::oldest}) {
        const std::vector<uint32_t> order = joined(planned(cells_at(positions), {.ratio = 4}, keep));
        ASSERT_EQ(order.size(), 200u);
        for (uint32_t i = 0; i < 200; ++i)
            EXPECT_EQ(positions[order[i]], static_cast<int32_t>(i));
    }
}

TEST(Regions, OfAFoldedSequenceSkipItsGaps) {
    std::vector<int32_t> positions;
    for (int32_t i = 0; i < 100; ++i)
        positions.push_back(i * 7);
    const Regions regions = planned(cells_at(positions), {.ratio = 2});
    EXPECT_EQ(regions.cells_after(), 50u);
    EXPECT_EQ(regions.tail.back(), 99u);
}

TEST(Regions, OfTheBaselinesKeepTheNewestCell) {
    const Regions newest = planned(sequence_of(400), {.ratio = 8}, Keep::newest);
    EXPECT_EQ(newest.head.size(), 4u);
    EXPECT_EQ(newest.folded, 0u);
    EXPECT_EQ(newest.tail.size(), 46u);
    EXPECT_EQ(newest.tail.back(), 399u);

    const Regions oldest = planned(sequence_of(400), {.ratio = 8}, Keep::oldest);
    EXPECT_EQ(oldest.head.size(), 49u);
    EXPECT_EQ(oldest.folded, 0u);
    EXPECT_EQ(oldest.tail, std::vector<uint32_t>{399});
}

TEST(Regions, DrawnByLotKeepHeadAndTailAndAsManyCellsAsAFold) {
    constexpr auto kRandom = Keep::random;
    const KvSection section = sequence_of(400);
    const Regions fold = planned(section, {.ratio = 8}), drawn = planned(section, {.ratio = 8}, kRandom);
    EXPECT_EQ(drawn.head, fold.head);
    EXPECT_EQ(drawn.tail, fold.tail);
    EXPECT_EQ(drawn.folded, 0u);
    EXPECT_EQ(drawn.pinned.size(), fold.folded);
    EXPECT_TRUE(std::is_sorted(drawn.pinned.begin(), drawn.pinned.end()));
    std::vector<uint32_t> both = drawn.region;
    both.insert(both.end(), drawn.pinned.begin(), drawn.pinned.end());
    std::sort(both.begin(), both.end());
    EXPECT_EQ(both, fold.region); // each cell is drawn or dropped
    EXPECT_EQ(drawn.region.back(), fold.region.back());
}

TEST(Regions, DrawnByLotAreThoseOfTheSeedAndLieAnywhere) {
    constexpr auto kRandom = Keep::random;
    const KvSection section = sequence_of(400);
    const auto drawn = [&](uint64_t seed) {
        return plan_regions(section, {.ratio = 8}, kRandom, seed)->pinned;
    };
    EXPECT_EQ(drawn(1), drawn(1));
    EXPECT_NE(drawn(1), drawn(2));
    double mean = 0; // of 50 draws of 35 cells between 4 and 388: 196 +- 3
    for (uint64_t seed = 0; seed < 50; ++seed) {
        for (const uint32_t cell : drawn(seed))
            mean += cell / (50.0 * static_cast<double>(drawn(seed).size()));
    }
    EXPECT_NEAR(mean, 196, 12);
}

} // namespace
} // namespace kvfold
