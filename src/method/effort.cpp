#include "method/effort.h"

#include "solve/omp.h"
#include "solve/refine.h"

#include <algorithm>
#include <cmath>

namespace kvfold {

namespace {

// The time of each, that of a multiplication of the prefill's matrix products being 1.
constexpr double kAttention = 3;    // a multiplication of attention to cells
constexpr double kDraft = 4.5;      // a token that is sampled, in tokens that are read
constexpr double kProduct = 0.8;    // a multiplication in f32
constexpr double kExponential = 25; // with what else is done to the same number
constexpr double kDouble = 0.33;    // a multiplication of a factorisation in f64

constexpr Index kLeastQueries = StudyPlan{}.max_queries; // however many cells are kept: those of refine
constexpr float kAllQueries = 2;      // effort from which on as many are solved with as a plan allows
constexpr int kHalvings = 12;         // of an effort: to a thousandth
constexpr double kFactorisations = 8; // of t x t: about six Newton steps of the bias, two fits of the values

struct Operations {
    double products = 0, exponentials = 0, doubles = 0;
    double time() const { return kProduct * products + kExponential * exponentials + kDouble * doubles; }
};

// Of one KV head: n queries, T cells become t, in stages as solve_head has them.
Operations operations_of(const SolvePlan& plan, double n, double T, double t, double d, double dv) {
    Operations all;
    all.products += n * T * (d + dv);
    all.exponentials += n * T;
    if (plan.pursued > 0) {
        const double pursued = plan.pursued * t;
        const double M = std::min(T, t - pursued + kPursuitCandidates * pursued);
        all.products += n * M * (d + dv) + M * M * n / 2 + M * t * (t / 2 + dv);
        all.exponentials += n * M;
    }
    if (plan.fit_bias) {
        all.products += n * t * d + n * t * t / 2;
        all.exponentials += 2 * n * t;
    }
    if (plan.refine_steps > 0) {
        const double steps = static_cast<double>(refine_steps_for(plan.refine_steps, static_cast<Index>(t)));
        const double rows = std::min(n, static_cast<double>(kRefineBatch));
        all.products += 2 * n * t * (d + dv) + n * t * t / 2 + steps * rows * t * (2 * d + 3 * dv);
        all.exponentials += 2 * n * t + steps * rows * t;
    }
    all.products += n * t * (d + dv);
    all.exponentials += n * t;
    if (plan.fit_values) all.products += n * t * dv + n * t * t / 2;
    all.doubles += kFactorisations * t * t * t / 3;
    return all;
}

// Multiplications of reading `tokens` tokens that see `cells` cells each.
double reading(const Workload& work, double tokens, double cells) {
    double attention = 0; // of a token and a cell
    for (const AttentionLayer& layer : work.layers)
        attention += static_cast<double>(layer.readers * layer.heads * (layer.key_width + layer.value_width));
    return tokens * (work.parameters + kAttention * attention * cells);
}

double solving(const SolvePlan& plan, Index max_queries, size_t tokens, const Workload& work) {
    double time = 0;
    for (const AttentionLayer& layer : work.layers) {
        const auto asked =
            static_cast<double>(layer.readers * layer.heads / layer.kv_heads) * static_cast<double>(tokens);
        const double n = std::min(asked, static_cast<double>(max_queries));
        const Operations head =
            operations_of(plan, n, static_cast<double>(work.region), static_cast<double>(work.fold.kept),
                          static_cast<double>(layer.key_width), static_cast<double>(layer.value_width));
        time += static_cast<double>(layer.kv_heads) * head.time();
    }
    return time;
}

} // namespace

Cost predict_cost(const StudyPlan& study, const SolvePlan& solve, const Workload& work) {
    const auto cells = static_cast<double>(work.fold.cells);
    const double prefill = reading(work, cells, cells / 2);
    const StudyTokens tokens = tokens_of(study, work.fold);
    const size_t heard = std::min(tokens.newest, work.heard);
    const double read = static_cast<double>(tokens.all - heard - tokens.drafted) +
                        kDraft * static_cast<double>(tokens.drafted);
    return {reading(work, read, cells) / prefill,
            solving(solve, study.max_queries, tokens.all, work) / prefill};
}

Plans plans_of_effort(const Method& method, float effort, size_t kept) {
    Plans plans = plans_of(method);
    plans.study = plans.study.scaled(effort);
    const float queries = std::min(1.0f, effort / kAllQueries) * static_cast<float>(plans.study.max_queries);
    const auto remembered = static_cast<Index>(kMostShares / std::max<size_t>(1, kept));
    plans.study.max_queries = std::min(static_cast<Index>(queries), std::max(kLeastQueries, remembered));
    plans.solve.refine_steps =
        std::max(1, static_cast<int>(std::lround(effort * static_cast<float>(plans.solve.refine_steps))));
    return plans;
}

float effort_within(double budget, const Method& method, const Workload& work) {
    const auto fits = [&](float effort) {
        const Plans plans = plans_of_effort(method, effort, work.fold.kept);
        return predict_cost(plans.study, plans.solve, work).total() <= budget;
    };
    const bool all_on_host = std::ranges::all_of(work.layers, &AttentionLayer::on_host);
    float least = kLeastEffort, most = all_on_host ? kMostEffort : kMostBesideADevice;
    if (fits(most)) return most;
    for (int i = 0; i < kHalvings; ++i) {
        const float middle = std::sqrt(least * most);
        (fits(middle) ? least : most) = middle;
    }
    return least;
}

ChosenPlans choose_plans(const Method& method, const Workload& work, float share) {
    ChosenPlans chosen;
    if (method.budget > 0) {
        chosen.effort = effort_within(static_cast<double>(share) * method.budget, method, work);
        chosen.plans = plans_of_effort(method, chosen.effort, work.fold.kept);
        chosen.expected = predict_cost(chosen.plans.study, chosen.plans.solve, work);
    } else {
        chosen.plans = {method.study.scaled(share), method.solve};
    }
    return chosen;
}

} // namespace kvfold
