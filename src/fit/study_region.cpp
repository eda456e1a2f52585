#include "fit/study_region.h"

#include "model/model.h"
#include "state/folded_region.h"
#include "study/draft.h"
#include "study/read_passages.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

// What the model asks while it writes about the full cache.
Result<Study> study_drafts(const RegionProblem& problem, std::mt19937_64& rng) {
    const StudyPlan& plan = problem.study;
    const size_t tokens = plan.tokens_for(plan.draft_share, fold_size(problem.regions).cells);
    const Drafts drafts = plan_drafts(tokens, problem.map.has_recurrent);
    const uint32_t cells = draft_cells(problem.model, drafts);
    QueryTap tap(problem.map.layers, cells);
    const ScratchParams params{problem.context, problem.threads, cells, problem.adapters,
                               draft_sequences(drafts)};
    KVFOLD_TRY(Scratch scratch,
               Scratch::open(problem.model, problem.map, problem.snapshot, params, &tap, problem.progress));
    const bool goes_on = !problem.tokens.empty() && !problem.map.has_recurrent; // else it cannot go back
    const llama_token newest = goes_on ? problem.tokens.back() : LLAMA_TOKEN_NULL;
    KVFOLD_CHECK(write_drafts(scratch, problem.model, newest, drafts, rng));
    return tap.take();
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
    std::vector<float> importance = importance_of(problem.study, passages);
    Study study = take_heard(problem, passages);
    if (study.layers.empty()) {
        KVFOLD_TRY(study, read_in_scratch(problem, problem.snapshot, passages));
    } else if (!passages.empty()) {
        KVFOLD_TRY(Study read, read_in_scratch(problem, problem.snapshot, passages));
        append_study(study, std::move(read));
    }
    if (!importance.empty() && std::ssize(importance) != study.tokens())
        return fail(ErrorCode::internal, "{} tokens were read, and {} were heard", importance.size(),
                    study.tokens());
    study.importance = std::move(importance);
    return study;
}

} // namespace

FoldSize fold_size(const Regions& regions) {
    return {regions.region.size() + regions.tail.size(), regions.folded};
}

std::vector<Passage> passages_of_text(const RegionProblem& problem, std::mt19937_64& rng) {
    const Pieces pieces = [&](llama_token token) { return detokenize(problem.model, {&token, 1}); };
    const FoldSize fold{fold_size(problem.regions).cells, problem.slots};
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
    const ReadingRoom room = room_to_read(passages, cache, problem.map);
    const ScratchParams params{problem.context, problem.threads, room.cells, problem.adapters,
                               room.sequences};
    KVFOLD_TRY(Scratch scratch,
               Scratch::open(problem.model, problem.map, cache, params, &tap, problem.progress));
    KVFOLD_CHECK(read_passages(scratch, passages, problem.map));
    return tap.take();
}

Result<Study> study_region(const RegionProblem& problem) {
    std::mt19937_64 rng(problem.seed);
    if (!problem.study.reads_text()) return study_drafts(problem, rng);
    KVFOLD_TRY(Study study, study_text(problem, rng));
    if (problem.study.draft_share > 0) {
        KVFOLD_TRY(Study drafted, study_drafts(problem, rng));
        append_study(study, std::move(drafted));
    }
    return study;
}

} // namespace kvfold
