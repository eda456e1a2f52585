// The positions that folded cells carry.
#include "fit/regions.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace kvfold {
namespace {

// What programs rely on: strictly rising, within the region, up to its end.
bool is_sound(const std::vector<uint32_t>& places, size_t region_size) {
    const bool rises =
        std::adjacent_find(places.begin(), places.end(), std::greater_equal<>()) == places.end();
    return rises && !places.empty() && places.back() == region_size - 1;
}

std::vector<double> random_means(std::mt19937& rng, size_t slots, size_t region_size) {
    std::uniform_real_distribution<double> anywhere(0, static_cast<double>(region_size - 1));
    std::vector<double> means(slots);
    for (double& mean : means)
        mean = anywhere(rng);
    std::sort(means.begin(), means.end());
    return means;
}

TEST(SpreadSlots, RiseStrictlyAndEndWithTheRegionWhateverTheMeans) {
    std::mt19937 rng(11);
    for (int round = 0; round < 2000; ++round) {
        const size_t region_size = 1 + rng() % 300, slots = 1 + rng() % region_size;
        std::vector<double> means = random_means(rng, slots, region_size);
        switch (round % 4) {
        case 1:
            std::fill(means.begin(), means.end(), 0.0);
            break; // all want the first place
        case 2:
            std::fill(means.begin(), means.end(), static_cast<double>(region_size - 1));
            break;
        case 3:
            std::fill(means.begin() + static_cast<std::ptrdiff_t>(slots / 2), means.end(), means[slots / 2]);
        default:
            break;
        }
        const std::vector<uint32_t> places = spread_slots(means, region_size);
        ASSERT_EQ(places.size(), slots);
        ASSERT_TRUE(is_sound(places, region_size)) << "round " << round;
    }
}

TEST(SpreadSlots, SharedPositionsAreNoticed) { // broken twin of the test above
    std::vector<uint32_t> places = spread_slots({1.2, 4.0, 7.9, 8.1}, 12);
    ASSERT_TRUE(is_sound(places, 12));
    places[1] = places[0];
    EXPECT_FALSE(is_sound(places, 12));
    EXPECT_FALSE(is_sound({3, 5, 9}, 12)); // does not reach the end
}

TEST(SpreadSlots, StayWhereTheMeansAreWhenThereIsRoom) {
    std::mt19937 rng(12);
    for (int round = 0; round < 200; ++round) {
        // Means at least 1.5 apart round to different places.
        std::vector<double> means;
        double mean = 0;
        for (size_t i = 0; i < 50; ++i)
            means.push_back(mean += 1.5 + static_cast<double>(rng() % 1000) / 250);
        const size_t region_size = static_cast<size_t>(mean) + 2 + rng() % 20;
        const std::vector<uint32_t> places = spread_slots(means, region_size);
        for (size_t i = 0; i + 1 < places.size(); ++i)
            ASSERT_NEAR(places[i], means[i], 0.5);
    }
}

TEST(SpreadSlots, OfAsManySlotsAsPlacesAreAllPlaces) {
    std::mt19937 rng(13);
    const std::vector<uint32_t> places = spread_slots(random_means(rng, 40, 40), 40);
    for (uint32_t i = 0; i < 40; ++i)
        EXPECT_EQ(places[i], i);
    EXPECT_EQ(spread_slots({0.0}, 1), std::vector<uint32_t>{0});
    EXPECT_EQ(spread_slots({2.0}, 9), std::vector<uint32_t>{8});
    EXPECT_TRUE(spread_slots({}, 9).empty());
}

} // namespace
} // namespace kvfold
