#include "solve/omp.h"
#include "solve/solve_head.h"

#include "reference/naive_head.h"
#include "reference/synthetic_head.h"
#include "solve/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

namespace kvfold {
namespace {

using reference::Column;
using reference::naive_attention;
using reference::random_matrix;
using reference::synthetic_head;
using reference::SyntheticHead;
using reference::Table;
using Cells = std::vector<uint32_t>;

// The problem that omp.h states, over all cells and in double.
struct Twin {
    Table shares;  // [n, T]
    Table targets; // [n, 1 + dv]
    double lambda;
};

Twin make_twin(const HeadProblem& problem, Index kept) {
    const auto full = naive_attention(problem, problem.keys.cast<double>(), problem.values.cast<double>());
    Twin twin{full.probabilities, Table::Ones(full.output.rows(), 1 + full.output.cols()), 0};
    double square = 0;
    for (Index i = 0; i < full.output.rows(); ++i)
        square += full.output.row(i).squaredNorm() / static_cast<double>(full.output.rows());
    if (square > 0) twin.targets.rightCols(full.output.cols()) = full.output / std::sqrt(square);
    std::vector<double> norms;
    for (Index j = 0; j < twin.shares.cols(); ++j)
        norms.push_back(twin.shares.col(j).squaredNorm());
    std::sort(norms.rbegin(), norms.rend());
    for (Index k = 0; k < kept; ++k)
        twin.lambda += 1e-3 * norms[static_cast<size_t>(k)] / static_cast<double>(kept);
    return twin;
}

struct Fit {
    Column lowest; // the minimum for each target
    double last_mass_weight;
};

// min_Z ||A_C Z - B||^2 + lambda ||Z||^2, all of it anew.
Fit fit_cells(const Twin& twin, const Cells& cells) {
    const auto t = std::ssize(cells);
    Table a(twin.shares.rows(), t);
    for (Index k = 0; k < t; ++k)
        a.col(k) = twin.shares.col(cells[static_cast<size_t>(k)]);
    double mean = 0;
    for (Index k = 0; k < t; ++k)
        mean += a.col(k).squaredNorm() / static_cast<double>(t);
    const Table z = reference::naive_ridge(a, twin.targets, twin.lambda / mean);
    const Table error = a * z - twin.targets;
    Fit fit{Column(twin.targets.cols()), z(t - 1, 0)};
    for (Index c = 0; c < z.cols(); ++c)
        fit.lowest[c] = error.col(c).squaredNorm() + twin.lambda * z.col(c).squaredNorm();
    return fit;
}

double objective(const Twin& twin, const Cells& cells) { return fit_cells(twin, cells).lowest.sum(); }

enum class Choose { best, worst };

// One cell at a time, the minimum before and after it computed from scratch.
Cells naive_pursuit(const Twin& twin, Index kept, Cells cells, Choose choose = Choose::best) {
    while (std::ssize(cells) < kept) {
        const Column before = cells.empty() ? Column(twin.targets.colwise().squaredNorm().transpose())
                                            : fit_cells(twin, cells).lowest;
        double best = -INFINITY;
        uint32_t taken = 0;
        for (uint32_t j = 0; j < static_cast<uint32_t>(twin.shares.cols()); ++j) {
            if (std::find(cells.begin(), cells.end(), j) != cells.end()) continue;
            Cells more = cells;
            more.push_back(j);
            const Fit fit = fit_cells(twin, more);
            Column gains = before - fit.lowest;
            if (fit.last_mass_weight < 0) gains[0] = 0;
            const double gain = choose == Choose::best ? gains.sum() : -gains.sum();
            if (gain > best) best = gain, taken = j;
        }
        cells.push_back(taken);
    }
    std::sort(cells.begin(), cells.end());
    return cells;
}

Cells pursue(const HeadProblem& problem, Index kept, const Cells& pinned = {}) {
    return pursue_cells(problem, attend_all(problem), kept, pinned).cells;
}

bool is_rising_choice(const Cells& cells, Index kept, Index all) {
    const bool rising = std::adjacent_find(cells.begin(), cells.end(), std::greater_equal<>()) == cells.end();
    return std::ssize(cells) == kept && rising && cells.back() < static_cast<uint32_t>(all);
}

// t <= 16 is one cell a step, and 4 t = T makes all cells candidates: the same plain pursuit.
TEST(Omp, TakesTheCellsOfTheTwin) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
        const SyntheticHead head = synthetic_head({.cells = 48, .queries = 100, .seed = seed});
        EXPECT_EQ(pursue(head.problem(), 12), naive_pursuit(make_twin(head.problem(), 12), 12, {}));
    }
}

TEST(Omp, TakesTheCellsOfTheTwinUnderASoftcap) {
    const SyntheticHead head = synthetic_head({.cells = 48, .queries = 100});
    const HeadProblem capped = head.problem(/*softcap=*/4);
    const Cells cells = pursue(capped, 12);
    EXPECT_EQ(cells, naive_pursuit(make_twin(capped, 12), 12, {}));
    EXPECT_NE(cells, pursue(head.problem(), 12)); // a forgotten cap would be noticed
}

TEST(Omp, TakesTheCellsOfTheTwinBehindPinnedOnes) {
    const SyntheticHead head = synthetic_head({.cells = 48, .queries = 100});
    const Cells pinned{3, 20, 47};
    const Cells cells = pursue(head.problem(), 12, pinned);
    EXPECT_TRUE(std::includes(cells.begin(), cells.end(), pinned.begin(), pinned.end()));
    EXPECT_EQ(cells, naive_pursuit(make_twin(head.problem(), 12), 12, pinned));
}

// Several cells a step: not the twin's cells, but a minimum nearly as low. 5 % is the price of the pool; the
// gain over the RMS score is many times that.
bool is_nearly_as_good(const HeadProblem& problem, const Cells& cells) {
    const Twin twin = make_twin(problem, std::ssize(cells));
    return objective(twin, cells) <= 1.05 * objective(twin, naive_pursuit(twin, std::ssize(cells), {}));
}

TEST(Omp, SeveralCellsAStepAreNearlyAsGoodAsOne) {
    const SyntheticHead head = synthetic_head({.cells = 120, .queries = 90, .value_width = 8});
    EXPECT_TRUE(is_nearly_as_good(head.problem(), pursue(head.problem(), 40)));
}

TEST(Omp, BrokenTwinsAreNoticed) {
    const SyntheticHead head = synthetic_head({.cells = 120, .queries = 90, .value_width = 8});
    const HeadProblem problem = head.problem();
    const Cells worst = naive_pursuit(make_twin(problem, 40), 40, {}, Choose::worst);
    EXPECT_FALSE(is_nearly_as_good(problem, worst));
    Cells first(40);
    std::iota(first.begin(), first.end(), 0u);
    EXPECT_FALSE(is_nearly_as_good(problem, first));
    const SyntheticHead other = synthetic_head({.cells = 120, .queries = 90, .value_width = 8, .seed = 2});
    EXPECT_FALSE(is_nearly_as_good(problem, pursue(other.problem(), 40)));
    // The lowest correlation leaves more of the mass unmatched, too, not only of the objective.
    const Twin twin = make_twin(problem, 40);
    EXPECT_GT(fit_cells(twin, worst).lowest[0], 4 * fit_cells(twin, pursue(problem, 40)).lowest[0]);
}

TEST(Omp, PinnedCellsMayFillTheWholeBudget) {
    const SyntheticHead head = synthetic_head({.cells = 48});
    const Cells pinned{0, 7, 30, 47};
    EXPECT_EQ(pursue(head.problem(), 4, pinned), pinned);
}

// Each cell twice. Half of the cells say everything, so taking a twin beside its cell is a place wasted; a
// pool is full of such pairs, which only the gains updated within a step can tell.
SyntheticHead doubled_head(Index cells, Index queries) {
    const SyntheticHead half = synthetic_head({.cells = cells / 2, .queries = queries});
    SyntheticHead head{Matrix(cells, half.keys.cols()), Matrix(cells, half.values.cols()), half.queries,
                       half.scale};
    head.keys << half.keys, half.keys;
    head.values << half.values, half.values;
    return head;
}

Index count_pairs(const Cells& cells, Index half) {
    std::set<Index> places;
    for (const uint32_t cell : cells)
        places.insert(static_cast<Index>(cell) % half);
    return std::ssize(cells) - std::ssize(places);
}

TEST(Omp, ARepeatedKeyIsDroppedFromThePoolAndItsPlaceFilled) {
    const SyntheticHead head = doubled_head(/*cells=*/256, /*queries=*/300);
    const HeadProblem problem = head.problem();
    const Cells cells = pursue(problem, 40); // 3 cells a step
    EXPECT_TRUE(is_rising_choice(cells, 40, 256));
    EXPECT_EQ(count_pairs(cells, 128), 0);
    // The broken twin: scores that do not know of each other take most cells with their twins.
    EXPECT_GE(count_pairs(select_cells(attend_all(problem).score, 40, {}), 128), 15);
}

TEST(Omp, AContextOfOneRepeatedCellStillFillsTheBudget) {
    SyntheticHead head = synthetic_head({.cells = 300, .queries = 50});
    head.keys.rowwise() = Matrix(head.keys.row(1)).row(0);
    head.values.rowwise() = Matrix(head.values.row(1)).row(0);
    EXPECT_TRUE(is_rising_choice(pursue(head.problem(), 100), 100, 300));
}

TEST(Omp, EqualGainsGoToTheLowerIndex) {
    SyntheticHead head = synthetic_head({.cells = 8, .queries = 16});
    head.keys.setZero(); // all cells look the same, and exactly so
    head.values.setZero();
    EXPECT_EQ(pursue(head.problem(), 1), (Cells{0}));
    EXPECT_EQ(pursue(head.problem(), 3), (Cells{0, 1, 2}));
}

TEST(Omp, AllCellsButOne) {
    const SyntheticHead head = synthetic_head({.cells = 64, .queries = 100});
    EXPECT_TRUE(is_rising_choice(pursue(head.problem(), 63), 63, 64));
}

TEST(Omp, OneQueryAndOneCell) {
    const SyntheticHead head = synthetic_head({.cells = 40, .queries = 1});
    EXPECT_TRUE(is_rising_choice(pursue(head.problem(), 20), 20, 40));
    // A weight of 1 / A_ij lets any cell carry all mass; the ridge prefers the heaviest.
    Index heaviest = 0;
    attend_all(head.problem()).score.maxCoeff(&heaviest);
    EXPECT_EQ(pursue(head.problem(), 1), (Cells{static_cast<uint32_t>(heaviest)}));
}

TEST(Omp, TheSizeOfTheValuesDoesNotMatter) {
    SyntheticHead head = synthetic_head({});
    const Cells cells = pursue(head.problem(), 32);
    head.values *= 0x1p60f; // their squares overflow f32
    EXPECT_EQ(pursue(head.problem(), 32), cells);
    head.values.setZero(); // only the mass is left
    EXPECT_TRUE(is_rising_choice(pursue(head.problem(), 32), 32, 256));
}

// The whole line on unseen queries, judged by the double twin.
TEST(Omp, BeatsTheRmsScoreOnUnseenQueries) {
    double rms = 0, omp = 0, rms_mass = 0, omp_mass = 0;
    for (const uint32_t seed : {1u, 2u, 3u, 4u}) {
        const SyntheticHead head = synthetic_head({.queries = 1200, .seed = seed});
        const Matrix seen = head.queries.topRows(600), unseen = head.queries.bottomRows(600);
        const HeadProblem fit{head.keys, head.values, seen, head.scale};
        const HeadProblem test{head.keys, head.values, unseen, head.scale};
        const auto judge = [&](float pursued) {
            const CompactHead compact = solve_head(fit, {.pursued = pursued}, {.kept = 32}).value();
            return reference::naive_quality(test, compact.keys.cast<double>(), compact.values.cast<double>());
        };
        const auto before = judge(0), after = judge(1);
        rms += before.output_error, rms_mass += before.mass_error;
        omp += after.output_error, omp_mass += after.mass_error;
    }
    EXPECT_LT(omp, 0.95 * rms);
    EXPECT_LT(omp_mass, rms_mass);
}

TEST(Omp, AfterRmsPursuesOnlyTheLastQuarter) {
    const SyntheticHead head = synthetic_head({});
    const HeadProblem problem = head.problem();
    const FullAttention full = attend_all(problem);
    const Cells pinned = {3, 200};
    const Cells surest = select_cells(full.score, 24, pinned);
    const auto cells = [&](float pursued) {
        return solve_head(problem, {.pursued = pursued}, {.kept = 32, .pinned = pinned}).value().kept;
    };
    EXPECT_EQ(cells(0.25f), pursue_cells(problem, full, 32, surest).cells);
    const auto holds_surest = [&](const Cells& kept) { return std::ranges::includes(kept, surest); };
    EXPECT_TRUE(holds_surest(cells(0.25f)));
    EXPECT_FALSE(holds_surest(cells(1))); // broken twin
    EXPECT_NE(cells(0.25f), cells(0));
}

TEST(Omp, TheSameInputGivesTheSameCells) {
    const SyntheticHead head = synthetic_head({});
    EXPECT_EQ(pursue(head.problem(), 50), pursue(head.problem(), 50));
}

// What the weights are fitted to afterwards is of the cells that are kept, in their order.
TEST(Omp, HandsOverTheSharesOfWhatItKeeps) {
    const SyntheticHead head = synthetic_head({});
    const HeadProblem problem = head.problem();
    const FullAttention full = attend_all(problem);
    const KeptCells kept = pursue_cells(problem, full, 32, {});
    const Matrix shares = mass_shares(problem, head.keys(kept.cells, Eigen::all), full);
    EXPECT_LT((kept.shares - shares).norm(), 1e-5f * shares.norm());
    EXPECT_LT((kept.gram - gram(shares)).norm(), 1e-5 * kept.gram.norm());
}

} // namespace
} // namespace kvfold
