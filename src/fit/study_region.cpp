#include "fit/study_region.h"

#include "fit/join_cells.h"
#include "fit/solve_layers.h"
#include "model/model.h"
#include "state/folded_region.h"
#include "study/self_study.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

// Cells whose share a source's tokens are: the tail is not folded, but asks and is asked like what is.
size_t cells_to_study(const Regions& regions) { return regions.region.size() + regions.tail.size(); }

// The compact cache that the queries so far give, without what only polishes it.
Result<SequenceState> first_compact_cache(const RegionProblem& problem, const Study& study) {
    SolvePlan quick = problem.solve;
    quick.refine_steps = 0;
    KVFOLD_TRY(const Solution solution, solve_layers(problem, study, quick));
    return join_cells(problem.snapshot, problem.regions, solution);
}

// Self-study: the model writes what is then read against the full cache. Decoding is ten times dearer than
// prefilling and dearer still on a full cache, so it writes on `cache`, a first compact one when there is
// one.
Result<std::vector<Passage>> write_drafts(const RegionProblem& problem, const SequenceState& cache,
                                          std::mt19937_64& rng) {
    const ScratchParams params{problem.context, problem.threads, draft_cells(problem.model),
                               problem.adapters};
    KVFOLD_TRY(Scratch scratch,
               Scratch::open(problem.model, problem.map, cache, params, nullptr, problem.progress));
    const StudyPlan& plan = problem.study;
    const llama_token newest = problem.tokens.empty() ? LLAMA_TOKEN_NULL : problem.tokens.back();
    const size_t count = plan.tokens_for(plan.draft_share, cells_to_study(problem.regions));
    return draft_passages(scratch, problem.model, newest, count, rng);
}

// A recurrent state cannot go back to an earlier token, and folded cells hold later ones too.
llama_pos back_to(const RegionProblem& problem) {
    if (problem.map.has_recurrent) return static_cast<llama_pos>(problem.tokens.size());
    return first_plain_position(problem.snapshot.sections.front());
}

// The queries of the newest tokens, where they were heard; they leave the passages.
Study take_heard(const RegionProblem& problem, std::vector<Passage>& passages) {
    Study study;
    std::erase_if(passages, [&](const Passage& passage) {
        if (!passage.is_newest || !problem.heard) return false;
        const Index count = std::ssize(passage.tokens), heard = problem.heard->tokens();
        if (count > heard) return false;
        std::vector<Index> newest(passage.tokens.size());
        std::iota(newest.begin(), newest.end(), heard - count);
        study = queries_of_tokens(*problem.heard, newest);
        return true;
    });
    return study;
}

// What the text asks: the newest tokens first, as they stand among the passages.
Result<Study> study_text(const RegionProblem& problem, std::mt19937_64& rng) {
    std::vector<Passage> passages = passages_of_text(problem, rng);
    Study heard = take_heard(problem, passages);
    if (heard.layers.empty()) return read_in_scratch(problem, problem.snapshot, passages);
    if (passages.empty()) return heard;
    KVFOLD_TRY(Study read, read_in_scratch(problem, problem.snapshot, passages));
    append_study(heard, std::move(read));
    return heard;
}

} // namespace

std::vector<Passage> passages_of_text(const RegionProblem& problem, std::mt19937_64& rng) {
    const Pieces pieces = [&](llama_token token) { return detokenize(problem.model, {&token, 1}); };
    const FoldSize fold{cells_to_study(problem.regions), problem.slots};
    std::vector<Passage> passages =
        plan_passages(problem.study, problem.tokens, fold, back_to(problem), pieces, rng);
    const auto behind = static_cast<llama_pos>(problem.tokens.size());
    for (const std::vector<llama_token>& tokens : problem.expected)
        passages.push_back({tokens, behind});
    std::ranges::stable_partition(passages, [](const Passage& passage) { return passage.is_newest; });
    return passages;
}

Result<Study> read_in_scratch(const RegionProblem& problem, const SequenceState& cache,
                              const std::vector<Passage>& passages) {
    if (passages.empty())
        return fail(ErrorCode::invalid_argument,
                    "nothing to study: the newest positions have no token (an image?), or "
                    "the model drafts nothing; take another method");
    QueryTap tap(problem.map.layers, count_tokens(passages));
    const ScratchParams params{problem.context, problem.threads, cells_to_spare(passages, cache),
                               problem.adapters};
    KVFOLD_TRY(Scratch scratch,
               Scratch::open(problem.model, problem.map, cache, params, &tap, problem.progress));
    KVFOLD_CHECK(read_passages(scratch, passages));
    return tap.take();
}

Result<Study> study_region(const RegionProblem& problem) {
    std::mt19937_64 rng(problem.seed);
    Study study;
    std::vector<Passage> drafts;
    if (problem.study.reads_text()) {
        KVFOLD_TRY(study, study_text(problem, rng));
        if (problem.study.draft_share == 0) return study;
        KVFOLD_TRY(const SequenceState compact, first_compact_cache(problem, study));
        KVFOLD_TRY(drafts, write_drafts(problem, compact, rng));
    } else {
        KVFOLD_TRY(drafts, write_drafts(problem, problem.snapshot, rng));
    }
    KVFOLD_TRY(Study drafted, read_in_scratch(problem, problem.snapshot, drafts));
    if (!problem.study.reads_text()) return drafted;
    append_study(study, std::move(drafted));
    return study;
}

} // namespace kvfold
