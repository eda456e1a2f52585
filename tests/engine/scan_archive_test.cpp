// A scan that reads a few blocks of keys finds what one finds that reads all of them.
#include "engine/scan_archive.h"

#include "reference/naive_head.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace kvfold {
namespace {

// One layer of two KV heads that one query head each asks. Keys wander, as those of a text do: neighbours are
// alike.
struct LongArchive {
    static constexpr Index kCells = 2000, kWidth = 16, kAsking = 5;
    AttentionMap map;
    KvSection originals;
    Study asked;
    std::vector<uint32_t> cells = std::vector<uint32_t>(kCells);

    explicit LongArchive(ggml_type type) {
        map.layers = {{.heads = 2, .kv_heads = 2, .key_width = kWidth, .value_width = kWidth, .scale = 0.5f}};
        std::mt19937 random(5);
        std::normal_distribution<float> normal;
        Matrix keys(kCells, 2 * kWidth);
        Eigen::RowVectorXf key = Eigen::RowVectorXf::Zero(2 * kWidth);
        for (Index cell = 0; cell < kCells; ++cell) {
            key = 0.9f * key +
                  0.4f * Eigen::RowVectorXf::NullaryExpr(2 * kWidth, [&] { return normal(random); });
            keys.row(cell) = key;
            originals.cells.push_back({.pos = static_cast<int32_t>(cell)});
        }
        originals.keys = {from_float(keys, type, false).value()};
        asked.layers = {{Matrix::NullaryExpr(kAsking, 2 * kWidth, [&] { return 2 * normal(random); }), 1}};
        std::iota(cells.begin(), cells.end(), 0u);
    }

    Vector scan(Index head, const KeyBlocks* blocks, size_t count = 8) const {
        const std::vector<Recallable> sources = {{originals, cells, blocks}};
        return scan_archive({map, sources, asked, count, 1, **chosen_kernels(), /*blocks_per_cell=*/2}, 0,
                            head);
    }
};

size_t read(const Vector& scores) { return static_cast<size_t>((scores.array() > 0).count()); }

class ScanArchive : public ::testing::TestWithParam<ggml_type> {};

TEST_P(ScanArchive, FindsInAFewBlocksWhatIsLookedAtMost) {
    const LongArchive archive(GetParam());
    const KeyBlocks blocks = block_keys(archive.map, archive.originals, archive.cells);
    KeyBlocks wrong = blocks; // broken twin: of the other head
    std::swap(wrong.heads[0][0], wrong.heads[0][1]);
    size_t found = 0, found_by_wrong = 0;
    for (const Index head : {0, 1}) {
        const Vector all = archive.scan(head, nullptr), few = archive.scan(head, &blocks),
                     other = archive.scan(head, &wrong);
        EXPECT_EQ(read(all), archive.cells.size());
        EXPECT_LE(read(few), archive.cells.size() / 3);
        std::vector<uint32_t> order = archive.cells;
        std::ranges::sort(order, std::greater(), [&](uint32_t cell) { return all[cell]; });
        for (size_t i = 0; i < 8; ++i) {
            found += few[order[i]] > 0;
            found_by_wrong += other[order[i]] > 0;
        }
        // What is not read weighs about what its mean and its variance say.
        for (Index cell = 0; cell < few.size(); ++cell) {
            if (few[cell] == 0) continue;
            EXPECT_GT(few[cell], 0.5f * all[cell]) << cell;
            EXPECT_LT(few[cell], 2 * all[cell]) << cell;
        }
    }
    EXPECT_EQ(found, 16u);
    EXPECT_LT(found_by_wrong, 12u);
}

TEST_P(ScanArchive, ReadsAllWhereMostBlocksWouldBe) {
    const LongArchive archive(GetParam());
    const KeyBlocks blocks = block_keys(archive.map, archive.originals, archive.cells);
    EXPECT_EQ(read(archive.scan(0, &blocks, 500)), archive.cells.size());
}

INSTANTIATE_TEST_SUITE_P(Types, ScanArchive, ::testing::Values(GGML_TYPE_F16, GGML_TYPE_F32),
                         [](const auto& info) { return std::string(ggml_type_name(info.param)); });

} // namespace
} // namespace kvfold
