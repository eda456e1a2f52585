#include "engine/on_policy.h"

#include "base/timer.h"
#include "engine/join_cells.h"
#include "engine/study_region.h"
#include "solve/loss.h"

#include <atomic>

namespace kvfold {

namespace {

// wanted: [tokens] of the study.
Study take_tokens(const Study& study, const std::vector<bool>& wanted) {
    Study taken;
    for (const LayerQueries& layer : study.layers) {
        std::vector<Index> rows;
        for (Index row = 0; row < layer.rows.rows(); ++row) {
            if (wanted[static_cast<size_t>(row / layer.readers)]) rows.push_back(row);
        }
        taken.layers.push_back({layer.rows(rows, Eigen::all), layer.readers});
    }
    return taken;
}

// Every fifth block of tokens: tokens side by side ask alike, so single ones held out would be no test.
std::vector<bool> held_out_tokens(Index tokens) {
    constexpr size_t kBlock = 16, kHeldOut = 5;
    std::vector<bool> held_out(static_cast<size_t>(tokens));
    for (size_t i = 0; i < held_out.size(); ++i)
        held_out[i] = i / kBlock % kHeldOut == kHeldOut - 1;
    return held_out;
}

std::vector<bool> inverted(std::vector<bool> flags) {
    flags.flip();
    return flags;
}

struct Reading {
    std::vector<Passage> again;   // passages to read on the compact cache
    std::vector<bool> off_policy; // [tokens] of the first study: those of the other passages
};

// Passages behind the sequence are read again. The newest tokens are not: folded cells that mean more than
// they do stand among them and would be cut off.
Reading plan_reading(const llama_model* model, const AttentionMap& map, const CompactRequest& request,
                     const Regions& regions) {
    std::mt19937_64 rng(request.seed); // the passages of study_region
    const auto end = static_cast<llama_pos>(request.tokens.size());
    Reading reading;
    for (Passage& passage : passages_of_text(model, map, regions, request, rng)) {
        const bool stays = passage.first_pos < end;
        reading.off_policy.insert(reading.off_policy.end(), passage.tokens.size(), stays);
        if (!stays) reading.again.push_back(std::move(passage));
    }
    return reading;
}

// The same tokens as the full and as the compact cache makes the model ask them, less those held out; and
// these, on policy.
struct Trial {
    Study off_policy, on_policy, held_out;
};

Study join(Study study, const Study& more) {
    append_study(study, more);
    return study;
}

// What a head loses on the held-out queries when it is fitted to the others, without refinement.
Result<double> trial_loss(const HeadTask& task, SolvePlan plan, const Matrix& seen, const Matrix& held_out) {
    const HeadProblem& all = task.problem;
    plan.refine_steps = 0;
    KVFOLD_TRY(const CompactHead head,
               solve_head({all.keys, all.values, seen, all.scale, all.softcap}, plan, task.request));
    const HeadProblem judge{all.keys, all.values, held_out, all.scale, all.softcap};
    return matching_loss(attend_all(judge), attend_compact(judge, head.keys), head.values);
}

} // namespace

Result<Solution> refit_on_policy(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                                 const Study& off_policy, const Solution& first,
                                 const CompactRequest& request, CompactReport& report) {
    const Timer study_timer;
    const SequenceState compact = join_cells(snapshot, report.regions, first);
    const Reading reading = plan_reading(model, map, request, report.regions);
    KVFOLD_TRY(const Study on_policy, read_in_scratch(model, map, compact, reading.again, request));
    report.study_s += study_timer.seconds();
    report.study_tokens += on_policy.tokens();

    const Timer solve_timer;
    const std::vector<bool> held_out = held_out_tokens(on_policy.tokens());
    const Study kept = take_tokens(off_policy, reading.off_policy);
    const Study replaced = take_tokens(off_policy, inverted(reading.off_policy));
    const Trial trial{join(kept, take_tokens(replaced, inverted(held_out))),
                      join(kept, take_tokens(on_policy, inverted(held_out))),
                      take_tokens(on_policy, held_out)};
    const SolvePlan& plan = request.method->solve;
    const SolveLimits limits = request.solve_limits();
    std::atomic<Index> refitted = 0;
    const auto refit = [&](const HeadTask& task) -> Result<CompactHead> {
        const auto queries = [&](const Study& study) {
            return queries_of_head(study, map, task.layer, task.head, limits.max_queries);
        };
        const Matrix judge = queries(trial.held_out);
        KVFOLD_TRY(const double before, trial_loss(task, plan, queries(trial.off_policy), judge));
        KVFOLD_TRY(const double after, trial_loss(task, plan, queries(trial.on_policy), judge));
        if (!(after < before)) return take_head(first, map, task.layer, task.index);
        ++refitted;
        return solve_head(task.problem, plan, task.request);
    };
    KVFOLD_TRY(Solution solution, solve_layers(snapshot.sections.front(), report.regions, map,
                                               join(kept, on_policy), refit, limits, request.progress));
    report.heads_refitted = refitted;
    report.solve_s += solve_timer.seconds();
    return solution;
}

} // namespace kvfold
