// How much is studied and how far is solved, where a method names what both may cost instead of plans: one
// number, the effort, moves all of a plan's dials, and a model of the cost says how much of it fits.
#pragma once

#include "method/method.h"

#include <span>

namespace kvfold {

// A region to fold, as far as its cost goes.
struct Workload {
    double parameters;                      // that a token is multiplied with (model/model.h)
    std::span<const AttentionLayer> layers; // to fold
    FoldSize fold;                          // what the study is planned for
    size_t region;                          // T: cells that are solved
    size_t heard;                           // newest tokens whose queries are known
};

// In prefills of fold.cells tokens on the processors that study and solve.
struct Cost {
    double study = 0, solve = 0;
    double total() const { return study + solve; }
};

// Counts multiplications and exponentials of every stage, each kind with the time that it was measured to
// take beside a multiplication of the prefill (docs/experiments/2026-11-30-effort.md): deterministic, and
// mostly within a quarter of what is measured where the processor prefills too.
Cost predict_cost(const StudyPlan& study, const SolvePlan& solve, const Workload& work);

struct Plans {
    StudyPlan study;
    SolvePlan solve;
};
inline Plans plans_of(const Method& method) { return {method.study, method.solve}; } // as written

// Numbers of a matrix [n, t] of queries and cells that more queries than refine's may come to: every thread
// holds several.
inline constexpr size_t kMostShares = size_t{1} << 25;

// The method's plans with so many times the tokens and steps, and fewer queries where the effort is less
// than 2 or `kept` cells leave memory for fewer.
Plans plans_of_effort(const Method& method, float effort, size_t kept);

// kMostBesideADevice: where a device reads and the processor solves, a prefill is no measure of what a solve
// may cost. That much is about what refine does.
inline constexpr float kLeastEffort = 0.125f, kMostEffort = 4, kMostBesideADevice = 0.5f;

// The largest effort, between the least and the most, that costs no more than `budget` prefills; the least
// where that costs more already.
float effort_within(double budget, const Method& method, const Workload& work);

struct ChosenPlans {
    Plans plans;
    float effort = 0; // 0: the method's plans are as written
    Cost expected = {};
};
// share: of the method's budget, or of the tokens that it studies where it has none: less than 1 where
// somebody waits.
ChosenPlans choose_plans(const Method& method, const Workload& work, float share);

} // namespace kvfold
