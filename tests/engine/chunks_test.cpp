// Which cells are folded together, and what each step keeps.
#include "engine/chunks.h"

#include <gtest/gtest.h>

#include <span>

namespace kvfold {
namespace {

constexpr auto kFit = Keep::fit;

KvSection sequence_of(size_t cells) {
    KvSection section;
    for (size_t pos = 0; pos < cells; ++pos)
        section.cells.push_back({.pos = static_cast<int32_t>(pos)});
    return section;
}

// Each fifth cell an image's.
KvSection with_images(KvSection section) {
    section.has_extra = true;
    for (size_t i = 0; i < section.cells.size(); ++i)
        section.cells[i].extra.fill(i % 5 == 3 ? 0xFF : 0);
    return section;
}

struct Step {
    KvSection section; // what the step works on
    Regions regions;
};

// Carries out the steps on positions alone: folded cells stand where the last cells of their chunk do.
std::vector<Step> walk(const KvSection& full, const Regions& whole, const std::vector<Chunk>& chunks) {
    std::vector<Step> steps;
    KvSection kept = take_cells(full, whole.head);
    for (const Chunk& chunk : chunks) {
        Step step{kept, {}};
        append_cells(step.section, take_cells(full, chunk.cells));
        append_cells(step.section, take_cells(full, whole.tail));
        auto regions = plan_regions(step.section, chunk.budget, kFit);
        EXPECT_TRUE(regions) << regions.error().message;
        if (!regions) return steps;
        step.regions = *regions;
        kept = take_cells(step.section, regions->head);
        append_cells(kept, take_cells(step.section, regions->pinned));
        append_cells(kept, take_cells(step.section, std::span(regions->region).last(regions->folded)));
        steps.push_back(std::move(step));
    }
    return steps;
}

std::vector<int32_t> positions(const KvSection& section, std::span<const uint32_t> cells) {
    std::vector<int32_t> found;
    for (const uint32_t cell : cells)
        found.push_back(section.cells[cell].pos);
    return found;
}

TEST(Chunks, FoldEveryCellOfTheRegionOnceAndInOrder) {
    for (const bool images : {false, true}) {
        for (const size_t cells : {300u, 1000u, 2049u}) {
            for (const double ratio : {1.02, 2.0, 4.7}) {
                for (const size_t most : {100u, 256u, 5000u}) {
                    SCOPED_TRACE(::testing::Message()
                                 << cells << " at " << ratio << " by " << most << ", " << images);
                    KvSection full = sequence_of(cells);
                    if (images && ratio > 3) continue; // a fifth stays anyway
                    if (images) full = with_images(full);
                    const Regions whole = plan_regions(full, {.ratio = ratio}, kFit).value();
                    const auto chunks = plan_chunks(full, whole, most);
                    ASSERT_TRUE(chunks) << chunks.error().message;
                    EXPECT_EQ(chunks->size(), (whole.region.size() + most - 1) / most);

                    std::vector<int32_t> folded;
                    size_t cells_left = 0;
                    const auto steps = walk(full, whole, *chunks);
                    for (size_t i = 0; i < steps.size(); ++i) {
                        const Regions& regions = steps[i].regions;
                        EXPECT_EQ(steps[i].section.cells.size(), (*chunks)[i].cells_before);
                        EXPECT_LE((*chunks)[i].end - (*chunks)[i].begin, most);
                        EXPECT_EQ(positions(steps[i].section, regions.tail), positions(full, whole.tail));
                        for (const int32_t pos : positions(steps[i].section, regions.region))
                            folded.push_back(pos);
                        cells_left = regions.cells_after();
                    }
                    EXPECT_EQ(folded, positions(full, whole.region));
                    EXPECT_EQ(cells_left, whole.cells_after());
                }
            }
        }
    }
}

TEST(Chunks, ReadTextsThatMeetAndCoverTheRegion) {
    const KvSection full = sequence_of(1000);
    const Regions whole = plan_regions(full, {.ratio = 4}, kFit).value();
    const auto chunks = plan_chunks(full, whole, 200).value();
    llama_pos end = 0;
    for (const Chunk& chunk : chunks) {
        EXPECT_EQ(chunk.text_begin, end);
        EXPECT_GT(chunk.text_end, chunk.text_begin);
        end = chunk.text_end;
    }
    EXPECT_EQ(end, full.cells[whole.tail.front()].pos);
}

TEST(Chunks, OfARatioThatLeavesNothingForThemAreRefused) {
    const KvSection full = sequence_of(2000);
    const Regions whole = plan_regions(full, {.ratio = 100, .keep_last = 0}, kFit).value(); // 16 cells
    EXPECT_TRUE(plan_chunks(full, whole, 400));
    const auto chunks = plan_chunks(full, whole, 100);
    ASSERT_FALSE(chunks);
    EXPECT_EQ(chunks.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(chunks.error().message.find("lower the ratio"), std::string::npos) << chunks.error().message;
}

TEST(ReadingPlan, NeverHoldsMoreCellsThanTheContext) {
    for (const size_t room : {400u, 700u, 1024u, 100000u}) {
        for (const size_t tokens : {350u, 1000u, 1800u}) {
            SCOPED_TRACE(::testing::Message() << tokens << " in " << room);
            const auto plan = plan_reading(tokens, {.ratio = 8}, 512, room);
            ASSERT_TRUE(plan) << plan.error().message;
            EXPECT_LE(plan->cells, room);
            size_t most = 0;
            for (const Chunk& chunk : plan->chunks)
                most = std::max(most, chunk.cells_before);
            EXPECT_EQ(plan->cells, most);
            EXPECT_LE(plan->cells, tokens / 8 + 1 + 512);
            EXPECT_EQ(plan->chunks.back().text_end + std::ssize(plan->regions.tail),
                      static_cast<ptrdiff_t>(tokens));
        }
    }
}

TEST(ReadingPlan, OfATextWithoutRoomForAChunkIsRefused) {
    EXPECT_TRUE(plan_reading(4000, {.ratio = 8}, 1024, 500 + kLeastChunk));
    const auto plan = plan_reading(4000, {.ratio = 8}, 1024, 500 + kLeastChunk - 1);
    ASSERT_FALSE(plan);
    EXPECT_EQ(plan.error().code, ErrorCode::invalid_argument);
    EXPECT_NE(plan.error().message.find("627"), std::string::npos) << plan.error().message;
}

TEST(ReadingPlan, OfRatioOneFoldsNothing) {
    const auto plan = plan_reading(300, {.ratio = 1}, 1024, 300);
    ASSERT_TRUE(plan) << plan.error().message;
    EXPECT_TRUE(plan->chunks.empty());
    EXPECT_EQ(plan->cells, 300u);
    EXPECT_FALSE(plan_reading(300, {.ratio = 1}, 1024, 299));
}

} // namespace
} // namespace kvfold
