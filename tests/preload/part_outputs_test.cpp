#include "preload/part_outputs.h"

#include <gtest/gtest.h>

#include <limits>

namespace kvfold::preload {
namespace {

constexpr size_t kWidth = 2;

// Ten entries, of which the second, the fifth and the last two have outputs; decoded as 4 + 3 + 3.
class Parts : public ::testing::Test {
  protected:
    void SetUp() override {
        std::vector<BatchEntry> entries(10);
        for (const size_t wanted : {1, 4, 8, 9})
            entries[wanted].output = true;
        outputs_.begin(entries);
        outputs_.reserve(kWidth);
        const std::vector<float> first = {10, 11}, second = {40, 41};
        outputs_.keep(0, 4, first.data());
        outputs_.keep(4, 3, second.data());
        outputs_.end(7);
    }
    PartOutputs outputs_;
};

TEST_F(Parts, AnOutputIsFoundByItsEntryAndFromTheEnd) {
    EXPECT_EQ(*outputs_.find(1), 10);
    EXPECT_EQ(*outputs_.find(4), 40);
    EXPECT_EQ(*outputs_.find(-3), 40);
    EXPECT_EQ(*outputs_.find(-4), 10);
}

TEST_F(Parts, OutputsOfTheLastPartAreInLlamaCpp) {
    for (const int32_t index : {8, 9, -1, -2})
        EXPECT_EQ(outputs_.find(index), nullptr) << index;
    EXPECT_EQ(outputs_.index_in_last(8), 1);
    EXPECT_EQ(outputs_.index_in_last(9), 2);
    EXPECT_EQ(outputs_.index_in_last(-1), -1);
}

TEST_F(Parts, WhatIsNoOutputIsNoneInLlamaCppEither) {
    for (const int32_t index : {0, 5, -5})
        EXPECT_EQ(outputs_.find(index), nullptr) << index;
    for (const int32_t index : {0, 5})
        EXPECT_EQ(outputs_.index_in_last(index), std::numeric_limits<int32_t>::max());
}

// As llama.cpp's they are one piece of memory, which programs may change.
TEST_F(Parts, AllRowsFollowOneAnother) {
    const float* first = outputs_.find(1);
    const std::vector<float> last = {80, 81, 90, 91}, expected = {10, 11, 40, 41, 80, 81, 90, 91};
    for (int time = 0; time < 2; ++time) {
        const float* all = outputs_.all(last.data());
        EXPECT_EQ(all, first);
        EXPECT_EQ(std::vector<float>(all, all + expected.size()), expected);
    }
    EXPECT_EQ(outputs_.find(9), first + 3 * kWidth);
    EXPECT_EQ(outputs_.find(-2), first + 2 * kWidth);
}

TEST_F(Parts, ABatchThatWasDecodedWholeLeavesAllToLlamaCpp) {
    outputs_.begin(std::vector<BatchEntry>(3));
    EXPECT_EQ(outputs_.find(1), nullptr);
    EXPECT_EQ(outputs_.index_in_last(1), 1);
    const std::vector<float> rows = {1, 2};
    EXPECT_EQ(outputs_.all(rows.data()), nullptr);
}

} // namespace
} // namespace kvfold::preload
