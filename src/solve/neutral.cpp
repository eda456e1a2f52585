#include "solve/neutral.h"

#include "solve/absorb.h"
#include "solve/attention.h"

#include <algorithm>
#include <cmath>

namespace kvfold {
namespace {

constexpr Index kHeldOut = 5;            // one query in so many
constexpr float kLeastProjection = 0.1f; // p_i: where it is less, other queries may see -g
constexpr float kMargin = 2;             // on c

// The least c >= 0 that silences the key for all queries. Empty when a query hardly sees g.
std::optional<float> least_factor(const Vector& projections, const Vector& mass) {
    if (projections.minCoeff() < kLeastProjection) return std::nullopt;
    const auto below_zero = static_cast<float>(-std::log(kNeutralShare)) - mass.array();
    return std::max(0.0f, (below_zero / projections.array()).maxCoeff());
}

bool is_silent(const HeadProblem& problem, const Vector& mass, const Matrix& key) {
    const Vector logits = attend_compact(problem, key).mass; // log-sum-exp of one logit
    return ((logits - mass).array() <= static_cast<float>(std::log(kNeutralShare))).all();
}

} // namespace

Result<std::optional<Vector>> neutral_key(const HeadProblem& problem, const Vector& mass,
                                          const RoundRows& round) {
    std::vector<Index> seen;
    for (Index i = 0; i < problem.queries.rows(); ++i) {
        if (i % kHeldOut != kHeldOut - 1) seen.push_back(i);
    }
    const Matrix queries = problem.queries(seen, Eigen::all);
    KVFOLD_TRY(const AbsorbDirection absorbing,
               fit_direction({problem.keys, problem.values, queries, problem.scale}));
    const std::optional<float> factor = least_factor(absorbing.projections, mass(seen));
    if (!factor) return std::nullopt;
    Matrix key = -kMargin * *factor * absorbing.direction.transpose();
    if (round) round(key);
    if (!key.allFinite() || !is_silent(problem, mass, key)) return std::nullopt;
    return std::optional<Vector>(key.row(0).transpose());
}

CompactHead spread_head(const CompactHead& head, const Vector& neutral, std::span<const uint32_t> slots,
                        Index count) {
    CompactHead spread = head;
    spread.keys = neutral.transpose().replicate(count, 1);
    spread.values = Matrix::Zero(count, head.values.cols());
    spread.kept.clear();
    for (size_t row = 0; row < slots.size(); ++row) {
        spread.keys.row(slots[row]) = head.keys.row(static_cast<Index>(row));
        spread.values.row(slots[row]) = head.values.row(static_cast<Index>(row));
        spread.kept.resize(slots[row] + 1, head.kept[row]);
    }
    spread.kept.resize(static_cast<size_t>(count), head.kept.back());
    spread.neutral = static_cast<uint32_t>(count - std::ssize(slots));
    return spread;
}

} // namespace kvfold
