#include "heads.h"

namespace kvfold::device {
namespace {

// Three heads of 30 cells, which are padded to 32, and of 40 queries, of which 32 fill registers.
struct Given : TestHeads {
    Given() : TestHeads({.cells = 30, .queries = 40}, /*count=*/3) {
        for (reference::SyntheticHead& head : heads)
            head.round_to_halves();
    }

    PackedHeads packed(int threads = 2) const {
        return pack_heads(problems, sizes_of(problems, {}, {.kept = 8}), threads);
    }
};

// The last two of the heads, as the device has them.
void expect_uploaded(const Given& given) {
    const auto backend = test_backend();
    const auto last = std::span(given.problems).last(2);
    HeadTensors held(*backend, sizes_of(last, {}, {.kept = 8}));
    ASSERT_TRUE(held.allocate());
    ASSERT_TRUE(upload(held, given.packed(), /*first=*/1));
    const std::vector<float> keys = read(held.keys), values = read(held.values), queries = read(held.queries);
    for (size_t i = 0; i < last.size(); ++i) {
        const HeadProblem& head = last[i];
        const Matrix rows = head_of(keys, i, 32, head.keys.cols());
        EXPECT_EQ(rows.topRows(30), head.keys);
        EXPECT_EQ(rows.bottomRows(2).norm(), 0);
        const Matrix transposed = head_of(values, i, head.values.cols(), 32);
        EXPECT_EQ(transposed.leftCols(30), head.values.transpose());
        EXPECT_EQ(transposed.rightCols(2).norm(), 0);
        EXPECT_EQ(head_of(queries, i, 32, head.keys.cols()), head.scale * head.queries.topRows(32));
    }
}

TEST(PackedHeads, AreHalvesWhereThoseHoldThem) {
    const Given given;
    EXPECT_EQ(given.packed().type, GGML_TYPE_F16);
    expect_uploaded(given);
}

TEST(PackedHeads, AreFloatsWhereOneNumberIsNoHalf) {
    Given given;
    given.heads.back().values(29, 5) = 1.0f + 1.0f / (1 << 12);
    EXPECT_EQ(given.packed(1).type, GGML_TYPE_F32);
    EXPECT_EQ(given.packed().type, GGML_TYPE_F32);
    expect_uploaded(given);
    given.heads.front().keys(0, 0) = 1e6f; // more than halves reach
    expect_uploaded(given);
}

} // namespace
} // namespace kvfold::device
