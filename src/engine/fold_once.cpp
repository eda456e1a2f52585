#include "engine/fold_once.h"

#include "base/timer.h"
#include "fit/join_cells.h"
#include "fit/study_region.h"
#include "model/model.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold {

namespace {

// Of a fold that a prompt waits for: half of its time is study, and the rest grows with what is studied.
constexpr float kAwaitedEffort = 0.5f;

Status check_tokens(TokenSpan tokens, const KvSection& section, const Method& method) {
    if (tokens.empty() && !method.study.reads_text()) return {};
    if (tokens.empty())
        return fail(ErrorCode::invalid_argument, "method {} studies the text: give the sequence's tokens",
                    method.name);
    const int32_t end = end_position(section);
    if (tokens.size() != static_cast<size_t>(end))
        return fail(ErrorCode::invalid_argument,
                    "{} tokens given for a sequence whose last position is {}; give one "
                    "token for each position",
                    tokens.size(), end - 1);
    const auto nulls = std::count(tokens.begin(), tokens.end(), LLAMA_TOKEN_NULL);
    if (static_cast<size_t>(nulls) + 2 > tokens.size())
        return fail(ErrorCode::invalid_argument,
                    "no text to study: {} of {} tokens given are LLAMA_TOKEN_NULL", nulls, tokens.size());
    if (nulls > 0 && method.study.reads(Source::prefill))
        return fail(ErrorCode::invalid_argument,
                    "method {} reads the sequence from its start, and {} positions have no token",
                    method.name, nulls);
    return {};
}

struct FittedPlans {
    Fitted fitted;
    ChosenPlans chosen;
};

// Study and solve, as the method's strategy puts them together.
Result<FittedPlans> fit_region(llama_model* model, const SequenceState& snapshot, const Regions& regions,
                               const CompactRequest& request) {
    const Method& method = *request.method;
    KVFOLD_CHECK(check_tokens(request.tokens, snapshot.sections.front(), method));
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    KVFOLD_TRY(const AttentionMap map, probe_attention(model, request.context));
    const size_t heard = request.heard ? static_cast<size_t>(request.heard->tokens()) : 0;
    const ChosenPlans chosen = choose_plans(
        method, {weights_of_token(model), map.layers, fold_size(regions), regions.region.size(), heard},
        request.is_awaited ? kAwaitedEffort : 1);
    Result<Fitted> fitted =
        method.fit(problem_of(model, map, snapshot, regions, chosen.plans, request, *kernels));
    if (!fitted && fitted.error().code == ErrorCode::invalid_argument)
        return fail(ErrorCode::invalid_argument, "method {}: {}", method.name, fitted.error().message);
    KVFOLD_CHECK(fitted);
    return FittedPlans{*std::move(fitted), chosen};
}

Status swap(llama_context* ctx, llama_seq_id seq_id, const SequenceState& snapshot,
            const CompactState& compact, const CompactRequest& request) {
    if (request.kept == nullptr) return write_sequence(ctx, seq_id, compact.state);
    const KvSection& made = compact.state.sections.front();
    auto replaced = replaced_between(snapshot.sections.front(), made, nullptr,
                                     kept_keys(compact.report.heads, compact.report.region_positions));
    const uint64_t mark = replaced ? fold_mark(made, replaced->end(), replaced->cells()->made_cells) : 0;
    KVFOLD_CHECK(write_sequence(ctx, seq_id, compact.state));
    if (replaced) request.kept->add(mark, std::move(replaced));
    return {};
}

} // namespace

RegionProblem problem_of(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                         const Regions& regions, const Plans& plans, const CompactRequest& request,
                         const Kernels& kernels) {
    return {model,
            map,
            snapshot,
            regions,
            regions.folded,
            plans.study,
            plans.solve,
            request.tokens,
            request.expected,
            request.heard,
            request.context,
            request.adapters,
            request.seed,
            request.threads,
            request.progress,
            kernels,
            request.solve_on};
}

Result<CompactState> fold_once(llama_model* model, const SequenceState& snapshot, const Regions& regions,
                               const CompactRequest& request) {
    FittedPlans done; // nothing, where cells are dropped and none folded
    if (regions.folded > 0) {
        KVFOLD_TRY(done, fit_region(model, snapshot, regions, request));
    }
    Fitted& fitted = done.fitted;
    SequenceState compact = join_cells(snapshot, regions, fitted.solution);
    CompactReport report;
    report.cells_before = snapshot.sections.front().cells.size();
    report.cells_after = compact.sections.front().cells.size();
    report.regions = regions;
    report.regions.folded = fitted.solution.slots;
    report.study_tokens = fitted.study_tokens;
    report.effort = done.chosen.effort;
    report.expected = done.chosen.expected;
    report.study_s = fitted.study_s;
    report.solve_s = fitted.solve_s;
    report.solved_on = std::move(fitted.solution.solved_on);
    report.heads = std::move(fitted.solution.heads);
    if (!report.heads.empty()) {
        for (const uint32_t cell : regions.region)
            report.region_positions.push_back(snapshot.sections.front().cells[cell].pos);
    }
    report.figures = std::move(fitted.figures);
    return CompactState{std::move(compact), std::move(report)};
}

Result<CompactReport> fold_in_place(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request,
                                    const std::function<Result<CompactState>(const SequenceState&)>& fold) {
    const Timer snapshot_timer;
    KVFOLD_TRY(const SequenceState snapshot, read_sequence(ctx, seq_id));
    const double snapshot_s = snapshot_timer.seconds();
    KVFOLD_TRY(CompactState compact, fold(snapshot));

    if (!goes_on(request.progress, Stage::swap, 0)) return fail(ErrorCode::cancelled, "cancelled");
    const Timer swap_timer;
    compact.report.bytes_before = llama_state_seq_get_size(ctx, seq_id);
    if (compact.report.cells_after < compact.report.cells_before)
        KVFOLD_CHECK(swap(ctx, seq_id, snapshot, compact, request));
    compact.report.bytes_after = llama_state_seq_get_size(ctx, seq_id);
    compact.report.snapshot_s = snapshot_s;
    compact.report.swap_s = swap_timer.seconds();
    return std::move(compact.report);
}

CompactRequest with_threads_of(const llama_context* ctx, CompactRequest request) {
    if (ctx && request.threads <= 0) request.threads = llama_n_threads_batch(const_cast<llama_context*>(ctx));
    return request;
}

} // namespace kvfold
