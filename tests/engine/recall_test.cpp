// What a prompt asks for comes back out of the archive.
#include "engine/ask.h"
#include "engine/recall.h"

#include "reference/naive_head.h"
#include "state/folded_region.h"
#include "study/query_tap.h"
#include "support/tiny_model.h"

#include <numeric>

namespace kvfold {
namespace {

const Kernels& kernels() { return **chosen_kernels(); }

std::vector<uint32_t> range(uint32_t begin, uint32_t end) {
    std::vector<uint32_t> cells(end - begin);
    std::iota(cells.begin(), cells.end(), begin);
    return cells;
}

Matrix random_matrix(Index rows, Index cols, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    return Matrix::NullaryExpr(rows, cols, [&] { return normal(random); });
}

// One layer of two KV heads that two query heads each ask, at positions 0 to 39.
struct Archived {
    static constexpr Index kCells = 40, kWidth = 8, kAsking = 3;
    AttentionMap map;
    KvSection originals;
    Study asked;

    Archived() {
        map.layers = {{.heads = 4, .kv_heads = 2, .key_width = kWidth, .value_width = kWidth, .scale = 0.7f}};
        for (int32_t pos = 0; pos < kCells; ++pos)
            originals.cells.push_back({.pos = pos});
        originals.keys = {from_float(random_matrix(kCells, 2 * kWidth, 1), GGML_TYPE_F32, false).value()};
        originals.values = {from_float(random_matrix(kCells, 2 * kWidth, 2), GGML_TYPE_F32, false).value()};
        asked.layers = {{random_matrix(kAsking, 4 * kWidth, 3), 1}};
    }

    // In two folds, of positions 0 to 24 and 25 to 39, but for the first cells.
    KvSection older() const { return take_cells(originals, range(0, 25)); }
    KvSection newer() const { return take_cells(originals, range(25, kCells)); }

    // The highest `count` of the head's cells from `first` on, by the twin.
    // A cell has the score of one up to `behind` before it, or of the one behind it, if that is higher; those
    // that the head kept have half of theirs.
    std::vector<uint32_t> naive_choice(Index head, uint32_t first, size_t count, Index behind = 8,
                                       const std::vector<int32_t>& kept = {}) const {
        const Matrix keys =
            to_float(originals.keys[0]).middleCols(head * kWidth, kWidth).bottomRows(kCells - first);
        const Matrix values(keys.rows(), 0);
        Matrix queries(2 * kAsking, kWidth);
        for (Index member = 0; member < 2; ++member)
            queries.middleRows(member * kAsking, kAsking) =
                asked.layers[0].rows.middleCols((2 * head + member) * kWidth, kWidth);
        const HeadProblem problem{keys, values, queries, 0.7f};
        const auto twin = reference::naive_attention(problem, keys.cast<double>(), {});
        std::vector<std::pair<double, uint32_t>> order;
        for (Index cell = 0; cell < keys.rows(); ++cell) {
            double score = 0;
            const Index last = std::min(keys.rows() - 1, behind > 0 ? cell + 1 : cell);
            for (Index peak = std::max<Index>(0, cell - behind); peak <= last; ++peak) {
                const double nearer = 1 - 1e-3 * static_cast<double>(std::abs(peak - cell));
                const bool is_kept = std::ranges::count(kept, static_cast<int32_t>(first + peak)) > 0;
                score = std::max(score, (is_kept ? 0.5 : 1) * nearer *
                                            static_cast<double>(twin.probabilities.col(peak).maxCoeff()));
            }
            order.emplace_back(-score, first + static_cast<uint32_t>(cell));
        }
        std::ranges::sort(order);
        std::vector<uint32_t> chosen;
        for (size_t i = 0; i < count; ++i)
            chosen.push_back(order[i].second);
        std::ranges::sort(chosen);
        return chosen;
    }
};

TEST(Recall, TakesOfEveryHeadWhatItsQueriesLookAtMost) {
    const Archived archived;
    const KvSection older = archived.older(), newer = archived.newer();
    const std::vector<Recallable> sources = {{older, range(4, 25)},
                                             {newer, range(0, 15)}}; // without the head
    const auto recalled = recall({archived.map, sources, archived.asked, 5, 2, kernels()}, 77);
    ASSERT_TRUE(recalled) << recalled.error().message;
    ASSERT_EQ(recalled->cells.size(), 5u);
    for (const CellMeta& cell : recalled->cells)
        EXPECT_EQ(cell.pos, 77);
    const std::vector<std::vector<uint32_t>> chosen = {archived.naive_choice(0, 4, 5),
                                                       archived.naive_choice(1, 4, 5)};
    EXPECT_EQ(recalled->keys[0].bytes, take_heads(archived.originals.keys[0], chosen).bytes);
    EXPECT_EQ(recalled->values[0].bytes, take_heads(archived.originals.values[0], chosen).bytes);
    const std::vector<std::vector<uint32_t>> swapped = {chosen[1], chosen[0]}; // broken twins
    EXPECT_NE(recalled->keys[0].bytes, take_heads(archived.originals.keys[0], swapped).bytes);
    for (const Index fewer : {0, 2}) {
        const std::vector<std::vector<uint32_t>> others = {archived.naive_choice(0, 4, 5, fewer),
                                                           archived.naive_choice(1, 4, 5, fewer)};
        EXPECT_NE(recalled->keys[0].bytes, take_heads(archived.originals.keys[0], others).bytes);
    }
}

TEST(Recall, WhatAHeadKeptCountsHalf) {
    const Archived archived;
    const KvSection older = archived.older(), newer = archived.newer();
    const std::vector<Recallable> sources = {{older, range(0, 25)}, {newer, range(0, 15)}};
    RecallProblem problem{archived.map, sources, archived.asked, 5, 2, kernels()};
    const auto keys_with = [&](const KeptKeys* kept) {
        problem.kept = kept;
        const auto recalled = recall(problem, 77);
        EXPECT_TRUE(recalled);
        return recalled->keys[0].bytes;
    };
    const auto by_twin = [&](const KeptKeys& kept) {
        const std::vector<std::vector<uint32_t>> chosen = {archived.naive_choice(0, 0, 5, 8, kept[0]),
                                                           archived.naive_choice(1, 0, 5, 8, kept[1])};
        return take_heads(archived.originals.keys[0], chosen).bytes;
    };
    KeptKeys kept; // what each looks at most
    for (const Index head : {0, 1}) {
        const std::vector<uint32_t> highest = archived.naive_choice(head, 0, 3, 0);
        kept.emplace_back(highest.begin(), highest.end());
    }
    EXPECT_EQ(keys_with(&kept), by_twin(kept));
    EXPECT_NE(by_twin(kept), by_twin({{}, {}})); // broken twins: nobody looks at it, or at another head's
    EXPECT_NE(by_twin(kept), by_twin({kept[1], kept[0]}));
    kept.emplace_back(); // of another number of heads
    EXPECT_EQ(keys_with(&kept), by_twin({{}, {}}));
    EXPECT_EQ(keys_with(nullptr), by_twin({{}, {}}));
}

TEST(KeptKeys, ArePositionsThatRiseBehindThoseOfOlderFolds) {
    const std::vector<HeadReport> heads = {{.head = 0, .kept = {2, 0}}, {.head = 1, .kept = {1, 1}}};
    const std::vector<int32_t> positions = {10, 11, 12};
    EXPECT_EQ(kept_keys(heads, positions), (KeptKeys{{10, 12}, {11}}));
    EXPECT_EQ(kept_keys(heads, positions, {{3}, {4, 5}}), (KeptKeys{{3, 10, 12}, {4, 5, 11}}));
    EXPECT_EQ(kept_keys(heads, positions, {{3}}), (KeptKeys{{10, 12}, {11}})); // of other heads
    EXPECT_TRUE(kept_keys({}, {}).empty());
}

TEST(Recall, TakesAllWhereMoreAreWanted) {
    const Archived archived;
    const std::vector<Recallable> sources = {{archived.originals, range(0, Archived::kCells)}};
    const auto recalled = recall({archived.map, sources, archived.asked, 100, 1, kernels()}, 0);
    ASSERT_TRUE(recalled);
    EXPECT_EQ(recalled->cells.size(), size_t{Archived::kCells});
    EXPECT_EQ(recalled->keys[0].bytes, archived.originals.keys[0].bytes);
}

TEST(Recall, QueriesThatAreNotFiniteAreAnError) {
    Archived archived;
    archived.asked.layers[0].rows(0, 0) = std::numeric_limits<float>::quiet_NaN();
    const std::vector<Recallable> sources = {{archived.originals, range(0, Archived::kCells)}};
    const auto recalled = recall({archived.map, sources, archived.asked, 5, 2, kernels()}, 0);
    ASSERT_FALSE(recalled);
    EXPECT_EQ(recalled.error().code, ErrorCode::numeric);
}

TEST(AskingPace, AnAnswerAsksOftenAtItsBeginningAndThenEveryFewTokens) {
    AskingPace pace(8);
    std::vector<size_t> asked;
    for (size_t token = 1; token <= 40; ++token) {
        if (!pace.is_due(1)) continue;
        pace.asked();
        asked.push_back(token);
    }
    EXPECT_EQ(asked, (std::vector<size_t>{1, 2, 4, 8, 16, 24, 32, 40}));
}

TEST(AskingPace, WhoCouldNotAskIsDueAgain) {
    AskingPace pace(8);
    EXPECT_TRUE(pace.is_due(1));
    EXPECT_TRUE(pace.is_due(1)); // for nothing was asked
    pace.asked();
    EXPECT_FALSE(pace.is_due(1));
    EXPECT_TRUE(pace.is_due(3)); // several tokens at once
}

TEST(AskingTime, IsAShareOfWhatAnswersTakeAndALittleAhead) {
    AskingTime time(0.1);
    double decoded = 0, asked = 0;
    for (int token = 0; token < 400; ++token) {
        time.decoded(0.05);
        decoded += 0.05;
        if (!time.is_left()) continue;
        time.asked(0.2);
        asked += 0.2;
    }
    EXPECT_LE(asked, 0.1 * decoded + AskingTime::kAhead + 0.2);
    EXPECT_GE(asked, 0.1 * decoded);
}

TEST(AskingTime, IsNotSavedUp) {
    AskingTime time(0.1);
    time.decoded(1e6);
    time.asked(AskingTime::kAhead + 0.01);
    EXPECT_FALSE(time.is_left());
    time.decoded(0.2);
    EXPECT_TRUE(time.is_left());
}

TEST(AskingTime, HasNoEndWithoutAShare) {
    AskingTime time(std::nullopt);
    time.asked(1e6);
    EXPECT_TRUE(time.is_left());
}

constexpr size_t kText = 160, kNext = 12;

class RecallOn : public testing::TinySequence {};

// Where all but head and tail was dropped, and all of it is recalled, nothing is missing.
TEST_P(RecallOn, EverythingThatWasDroppedGivesTheFullLogits) {
    read(kText);
    const auto all = testing::random_tokens(kText + kNext);
    const std::vector<llama_token> next(all.begin() + kText, all.end());
    const auto full = testing::forced_logits(ctx_.get(), next, kText);
    const auto map = probe_attention(model_.get(), testing::one_thread());
    ASSERT_TRUE(map);
    const auto compact =
        compact_state(model_.get(), before_, testing::request_for(tokens_, 8, methods::keep_last));
    ASSERT_TRUE(compact) << compact.error().message;
    Study asked; // whatever they ask: all of it comes
    for (const AttentionLayer& layer : map->layers)
        asked.layers.push_back(
            {random_matrix(2 * layer.readers, layer.heads * layer.key_width, 9), layer.readers});
    const std::vector<Recallable> sources = {{before_.sections.front(), compact->report.regions.region}};
    const size_t dropped = sources[0].cells.size();
    const auto kl_with = [&](size_t count) {
        const int32_t place = sorted_positions(compact->state.sections.front()).front() - 1;
        const auto recalled = recall({*map, sources, asked, count, 1, kernels()}, place);
        EXPECT_TRUE(recalled) << recalled.error().message;
        const SequenceState state = with_recalled(compact->state, *recalled, place);
        EXPECT_TRUE(write_sequence(ctx_.get(), 0, state));
        return testing::mean_kl(full, testing::forced_logits(ctx_.get(), next, kText));
    };
    const double kl = kl_with(dropped);
    EXPECT_LT(kl, 5e-3); // the order of the cells is another
    EXPECT_GT(kl_with(dropped / 2), 10 * kl);
}

INSTANTIATE_TEST_SUITE_P(Models, RecallOn,
                         ::testing::Values("mha", "mqa", "unequal_widths", "gemma3", "gemma3n", "qwen2vl",
                                           "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

TEST(WithRecalled, OthersComeInTheirPlaceAndAllElseStays) {
    const Archived archived;
    const auto cells_at = [&](const std::vector<uint32_t>& cells, int32_t pos) {
        KvSection section = take_cells(archived.originals, cells);
        for (CellMeta& cell : section.cells)
            cell.pos = pos;
        return section;
    };
    KvSection now = cells_at({0, 1}, 29);
    append_cells(now, cells_at({10, 11}, 28));
    append_cells(now, cells_at({30, 31}, 30));
    const SequenceState state = with_recalled({{now}, {}, 3}, cells_at({20}, 28), 28);
    const auto keys_of = [&](const std::vector<uint32_t>& cells) {
        return take_cells(archived.originals, cells).keys[0].bytes;
    };
    EXPECT_EQ(state.sections.front().keys[0].bytes, keys_of({0, 1, 30, 31, 20}));
    EXPECT_EQ(without_recalled(state, 28).sections.front().keys[0].bytes, keys_of({0, 1, 30, 31}));
}

TEST(AskingTokens, AreTheNewestAndSomeOfThoseBefore) {
    EXPECT_TRUE(asking_tokens(0).empty());
    for (const size_t heard :
         {size_t{1}, size_t{5}, size_t{16}, size_t{17}, kAskingOfPrompt, kHeardOfPrompt}) {
        const std::vector<Index> tokens = asking_tokens(heard);
        EXPECT_EQ(tokens.size(), std::min(heard, kAskingOfPrompt));
        EXPECT_TRUE(std::ranges::is_sorted(tokens, std::less_equal<>())) << heard; // no token asks twice
        EXPECT_EQ(tokens.front(), 0) << heard;                                     // what was asked for first
        for (size_t i = 0; i < std::min(heard, kAskingOfPrompt / 2); ++i)
            EXPECT_EQ(tokens[tokens.size() - 1 - i], static_cast<Index>(heard - 1 - i));
    }
    const std::vector<Index> tokens = asking_tokens(112 + 16);
    EXPECT_EQ(tokens[1] - tokens[0], 7); // 16 of 112
    EXPECT_EQ(tokens[15], 105);
}

} // namespace
} // namespace kvfold
