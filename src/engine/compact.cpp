#include "engine/compact.h"

#include "base/timer.h"
#include "runtime/model.h"
#include "state/live_sequence.h"
#include "study/self_study.h"

#include <algorithm>

namespace kvfold {

namespace {

Status check_tokens(std::span<const llama_token> tokens, const KvSection& section, const Method& method) {
    if (tokens.empty() && !method.study.reads_text()) return {};
    if (tokens.empty())
        return fail(ErrorCode::invalid_argument, "method {} studies the text: give the sequence's tokens",
                    method.name);
    int32_t last = 0;
    for (const CellMeta& cell : section.cells)
        last = std::max(last, cell.pos);
    if (tokens.size() != static_cast<size_t>(last) + 1)
        return fail(ErrorCode::invalid_argument,
                    "{} tokens given for a sequence whose last position is {}; give one "
                    "token for each position",
                    tokens.size(), last);
    const auto nulls = std::count(tokens.begin(), tokens.end(), LLAMA_TOKEN_NULL);
    if (static_cast<size_t>(nulls) + 2 > tokens.size())
        return fail(ErrorCode::invalid_argument, "no text to study: {} of {} tokens given are LLAMA_TOKEN_NULL", nulls, tokens.size());
    if (nulls > 0 && method.study.reads(Source::prefill))
        return fail(ErrorCode::invalid_argument,
                    "method {} reads the sequence from its start, and {} positions have no token", method.name,
                    nulls);
    return {};
}

// The tail is not folded, but asks and is asked like what is.
size_t cells_to_study(const Regions& regions) { return regions.region.size() + regions.tail.size(); }

// Reads passages in a scratch context that holds `snapshot`, and returns their queries.
Result<Study> read_in_scratch(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                              const std::vector<Passage>& passages, const CompactRequest& request) {
    QueryTap tap(map.layers, count_tokens(passages));
    const ScratchParams params{request.context, request.threads, /*extra_cells=*/kLongestPassage};
    KVFOLD_TRY(Scratch scratch, Scratch::open(model, map, snapshot, params, &tap, request.progress));
    KVFOLD_CHECK(read_passages(scratch, passages));
    return tap.take();
}

// The folded cells alone. Their slots hold different tokens in different heads, so each stands where the mean does.
KvSection folded_cells(const KvSection& full, const Regions& regions, const Solution& solution) {
    std::vector<double> mean_kept(regions.folded, 0.0);
    for (const HeadReport& head : solution.heads) {
        for (size_t i = 0; i < head.kept.size(); ++i)
            mean_kept[i] += head.kept[i] / static_cast<double>(solution.heads.size());
    }
    KvSection folded = take_cells(full, {});
    for (const uint32_t place : spread_slots(mean_kept, regions.region.size()))
        folded.cells.push_back(full.cells[regions.region[place]]);
    folded.keys = solution.keys;
    folded.values = solution.values;
    return folded;
}

// The compact sequence: verbatim head and pinned cells, folded region, verbatim tail; other sections as they are.
SequenceState join_cells(const SequenceState& snapshot, const Regions& regions, const Solution& solution) {
    const KvSection& full = snapshot.sections.front();
    KvSection compact = take_cells(full, regions.head);
    append_cells(compact, take_cells(full, regions.pinned));
    if (regions.folded > 0) append_cells(compact, folded_cells(full, regions, solution));
    append_cells(compact, take_cells(full, regions.tail));
    SequenceState state{{std::move(compact)}, snapshot.recurrent};
    state.sections.insert(state.sections.end(), snapshot.sections.begin() + 1, snapshot.sections.end());
    return state;
}

// The compact cache that the queries so far give, without what only polishes it.
Result<SequenceState> first_compact_cache(const AttentionMap& map, const SequenceState& snapshot,
                                          const Study& study, const Regions& regions,
                                          const CompactRequest& request) {
    SolvePlan quick = request.method->solve;
    quick.refine_steps = 0;
    KVFOLD_TRY(const Solution solution, solve_layers(snapshot.sections.front(), regions, map, study, quick,
                                                     {request.threads}, request.progress));
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

// The queries of all sources of the method.
Result<Study> study_region(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                           const Regions& regions, const CompactRequest& request) {
    const StudyPlan& plan = request.method->study;
    std::mt19937_64 rng(request.seed);
    Study study;
    std::vector<Passage> drafts;
    if (plan.reads_text()) {
        const Pieces pieces = [model](llama_token token) { return detokenize(model, {&token, 1}); };
        const CanGoBack can = map.has_recurrent ? CanGoBack::no : CanGoBack::yes;
        const auto passages = plan_passages(plan, request.tokens, cells_to_study(regions), can, pieces, rng);
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

// Study and solve for the methods that fit.
Result<Solution> fit_region(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                            const CompactRequest& request, CompactReport& report) {
    const Method& method = *request.method;
    const KvSection& section = snapshot.sections.front();
    KVFOLD_CHECK(check_tokens(request.tokens, section, method));
    const Timer study_timer;
    KVFOLD_TRY(const Study study, study_region(model, map, snapshot, report.regions, request));
    report.study_s = study_timer.seconds();
    report.study_tokens = study.tokens();

    const Timer solve_timer;
    KVFOLD_TRY(Solution solution, solve_layers(section, report.regions, map, study, method.solve,
                                               {request.threads}, request.progress));
    report.solve_s = solve_timer.seconds();
    return solution;
}

} // namespace

Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request) {
    CompactReport report;
    const KvSection& section = snapshot.sections.front();
    report.cells_before = section.cells.size();
    KVFOLD_TRY(report.regions, plan_regions(section, request.budget, request.method->keep, request.seed));
    report.cells_after = report.regions.cells_after();
    if (report.cells_after == report.cells_before)
        return CompactState{snapshot, std::move(report)}; // ratio 1

    Solution solution;
    if (report.regions.folded > 0) {
        KVFOLD_TRY(const AttentionMap map, probe_attention(model, request.context));
        KVFOLD_TRY(solution, fit_region(model, map, snapshot, request, report));
    }
    SequenceState state = join_cells(snapshot, report.regions, solution);
    report.heads = std::move(solution.heads);
    return CompactState{std::move(state), std::move(report)};
}

Result<CompactReport> compact_sequence(llama_context* ctx, llama_seq_id seq_id,
                                       const CompactRequest& request) {
    Timer snapshot_timer;
    KVFOLD_TRY(const SequenceState snapshot, read_sequence(ctx, seq_id));
    const double snapshot_s = snapshot_timer.seconds();

    CompactRequest resolved = request;
    if (resolved.threads <= 0) resolved.threads = llama_n_threads_batch(ctx);
    // The API hands out the model as const, and asks for it as mutable to create a second context of it.
    auto* model = const_cast<llama_model*>(llama_get_model(ctx));
    KVFOLD_TRY(CompactState compact, compact_state(model, snapshot, resolved));

    if (!goes_on(request.progress, Stage::swap, 0)) return fail(ErrorCode::cancelled, "cancelled");
    Timer swap_timer;
    compact.report.bytes_before = llama_state_seq_get_size(ctx, seq_id);
    if (compact.report.cells_after < compact.report.cells_before)
        KVFOLD_CHECK(write_sequence(ctx, seq_id, compact.state));
    compact.report.bytes_after = llama_state_seq_get_size(ctx, seq_id);
    compact.report.snapshot_s = snapshot_s;
    compact.report.swap_s = swap_timer.seconds();
    return std::move(compact.report);
}

} // namespace kvfold
