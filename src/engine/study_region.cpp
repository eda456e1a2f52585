#include "engine/study_region.h"

#include "engine/join_cells.h"
#include "runtime/model.h"
#include "study/self_study.h"

namespace kvfold {

namespace {

// Cells whose share a source's tokens are: the tail is not folded, but asks and is asked like what is.
size_t cells_to_study(const Regions& regions) { return regions.region.size() + regions.tail.size(); }

// The compact cache that the queries so far give, without what only polishes it.
Result<SequenceState> first_compact_cache(const AttentionMap& map, const SequenceState& snapshot,
                                          const Study& study, const Regions& regions,
                                          const CompactRequest& request) {
    SolvePlan quick = request.method->solve;
    quick.refine_steps = 0;
    KVFOLD_TRY(const Solution solution, solve_layers(snapshot.sections.front(), regions, map, study, quick,
                                                     request.solve_limits(), request.progress));
    return join_cells(snapshot, regions, solution);
}

// Self-study: the model writes what is then read against the full cache. Decoding is ten times dearer than
// prefilling and dearer still on a full cache, so it writes on `cache`, a first compact one when there is
// one.
Result<std::vector<Passage>> write_drafts(llama_model* model, const AttentionMap& map,
                                          const SequenceState& cache, const Regions& regions,
                                          const CompactRequest& request, std::mt19937_64& rng) {
    const ScratchParams params{request.context, request.threads, /*extra_cells=*/kLongestPassage};
    KVFOLD_TRY(Scratch scratch, Scratch::open(model, map, cache, params, nullptr, request.progress));
    const StudyPlan& plan = request.method->study;
    const llama_token newest = request.tokens.empty() ? LLAMA_TOKEN_NULL : request.tokens.back();
    return draft_passages(scratch, model, newest, plan.tokens_for(plan.draft_share, cells_to_study(regions)),
                          rng);
}

} // namespace

std::vector<Passage> passages_of_text(const llama_model* model, const AttentionMap& map,
                                      const Regions& regions, const CompactRequest& request,
                                      std::mt19937_64& rng) {
    const Pieces pieces = [model](llama_token token) { return detokenize(model, {&token, 1}); };
    const CanGoBack can = map.has_recurrent ? CanGoBack::no : CanGoBack::yes;
    const FoldSize fold{cells_to_study(regions), regions.folded};
    std::vector<Passage> passages =
        plan_passages(request.method->study, request.tokens, fold, can, pieces, rng);
    const auto behind = static_cast<llama_pos>(request.tokens.size());
    for (const std::vector<llama_token>& tokens : request.expected)
        passages.push_back({tokens, behind});
    return passages;
}

Result<Study> read_in_scratch(llama_model* model, const AttentionMap& map, const SequenceState& cache,
                              const std::vector<Passage>& passages, const CompactRequest& request) {
    if (passages.empty())
        return fail(ErrorCode::invalid_argument,
                    "method {} finds nothing to study: the newest positions have no token (an image?), or "
                    "the model drafts nothing; take another method",
                    request.method->name);
    QueryTap tap(map.layers, count_tokens(passages));
    const ScratchParams params{request.context, request.threads, /*extra_cells=*/kLongestPassage};
    KVFOLD_TRY(Scratch scratch, Scratch::open(model, map, cache, params, &tap, request.progress));
    KVFOLD_CHECK(read_passages(scratch, passages));
    return tap.take();
}

Result<Study> study_region(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                           const Regions& regions, const CompactRequest& request) {
    const StudyPlan& plan = request.method->study;
    std::mt19937_64 rng(request.seed);
    Study study;
    std::vector<Passage> drafts;
    if (plan.reads_text()) {
        const auto passages = passages_of_text(model, map, regions, request, rng);
        KVFOLD_TRY(study, read_in_scratch(model, map, snapshot, passages, request));
        if (plan.draft_share == 0) return study;
        KVFOLD_TRY(const SequenceState compact, first_compact_cache(map, snapshot, study, regions, request));
        KVFOLD_TRY(drafts, write_drafts(model, map, compact, regions, request, rng));
    } else {
        KVFOLD_TRY(drafts, write_drafts(model, map, snapshot, regions, request, rng));
    }
    KVFOLD_TRY(Study drafted, read_in_scratch(model, map, snapshot, drafts, request));
    if (!plan.reads_text()) return drafted;
    append_study(study, drafted);
    return study;
}

} // namespace kvfold
