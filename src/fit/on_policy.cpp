#include "fit/on_policy.h"

#include "base/timer.h"
#include "fit/join_cells.h"
#include "fit/solve_layers.h"
#include "fit/study_region.h"

#include <atomic>

namespace kvfold {

namespace {

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
Reading passages_to_read_again(const RegionProblem& problem) {
    std::mt19937_64 rng(problem.seed); // the passages of study_region
    const auto end = static_cast<llama_pos>(problem.tokens.size());
    Reading reading;
    for (Passage& passage : passages_of_text(problem, rng)) {
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

// What a head is asked by some of the tokens.
struct Asked {
    Matrix queries;
    std::vector<float> importance;
    HeadProblem of(const HeadProblem& head) const {
        return {head.keys, head.values, queries, head.scale, head.softcap, importance};
    }
};

// What a head loses on the held-out queries when it is fitted to the others, without refinement.
Result<double> trial_loss(const HeadTask& task, SolvePlan plan, const Asked& seen, const Asked& held_out) {
    plan.refine_steps = 0;
    KVFOLD_TRY(const CompactHead head, task.kernels.solve_head(seen.of(task.problem), plan, task.request));
    const HeadProblem judge = held_out.of(task.problem);
    const Kernels& kernels = task.kernels;
    return kernels.matching_loss(kernels.attend_all(judge), kernels.attend_compact(judge, head.keys),
                                 head.values);
}

struct Refit {
    Solution solution;
    Index heads = 0; // that took the second fit
};

Result<Refit> refit(const RegionProblem& problem, const Solution& first, const Study& everything,
                    const Trial& trial) {
    std::atomic<Index> refitted = 0;
    const auto solve = [&](const HeadTask& task) -> Result<CompactHead> {
        const auto asked = [&](const Study& study) {
            const Index most = problem.study.max_queries;
            return Asked{queries_of_head(study, problem.map, task.layer, task.head, most),
                         importance_of_head(study, problem.map, task.layer, most)};
        };
        const Asked judge = asked(trial.held_out);
        KVFOLD_TRY(const double before, trial_loss(task, problem.solve, asked(trial.off_policy), judge));
        KVFOLD_TRY(const double after, trial_loss(task, problem.solve, asked(trial.on_policy), judge));
        if (!(after < before)) return head_in_cache(first, problem.map, task.layer, task.index);
        ++refitted;
        return task.kernels.solve_head(task.problem, problem.solve, task.request);
    };
    KVFOLD_TRY(Solution solution, solve_layers(problem, everything, solve));
    return Refit{std::move(solution), refitted};
}

} // namespace

Result<Fitted> fit_on_policy(const RegionProblem& problem) {
    Timer study_timer;
    KVFOLD_TRY(const Study off_policy, study_region(problem));
    double study_s = study_timer.seconds();
    const Timer first_timer;
    KVFOLD_TRY(const Solution first, solve_layers(problem, off_policy, problem.solve));
    double solve_s = first_timer.seconds();

    study_timer = {};
    const SequenceState compact = join_cells(problem.snapshot, problem.regions, first);
    const Reading reading = passages_to_read_again(problem);
    KVFOLD_TRY(Study on_policy, read_in_scratch(problem, compact, reading.again));
    study_s += study_timer.seconds();

    const Timer second_timer;
    const std::vector<bool> held_out = held_out_tokens(on_policy.tokens());
    const Study kept = take_tokens(off_policy, reading.off_policy);
    const Study replaced = take_tokens(off_policy, inverted(reading.off_policy));
    on_policy.importance = replaced.importance; // the same tokens
    const Trial trial{join(kept, take_tokens(replaced, inverted(held_out))),
                      join(kept, take_tokens(on_policy, inverted(held_out))),
                      take_tokens(on_policy, held_out)};
    KVFOLD_TRY(Refit second, refit(problem, first, join(kept, on_policy), trial));
    solve_s += second_timer.seconds();
    return Fitted{std::move(second.solution),
                  off_policy.tokens() + on_policy.tokens(),
                  study_s,
                  solve_s,
                  {{"heads refitted", static_cast<double>(second.heads)}}};
}

} // namespace kvfold
