#include "engine/compact.h"

#include "base/timer.h"
#include "engine/chunked.h"
#include "engine/join_cells.h"
#include "engine/nonuniform.h"
#include "engine/on_policy.h"
#include "engine/sequential.h"
#include "engine/study_region.h"
#include "state/live_sequence.h"

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
        return fail(ErrorCode::invalid_argument,
                    "no text to study: {} of {} tokens given are LLAMA_TOKEN_NULL", nulls, tokens.size());
    if (nulls > 0 && method.study.reads(Source::prefill))
        return fail(ErrorCode::invalid_argument,
                    "method {} reads the sequence from its start, and {} positions have no token",
                    method.name, nulls);
    return {};
}

// Study and solve for the methods that fit. Budgets of their own change report.regions.folded.
Result<Solution> fit_region(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                            const CompactRequest& request, CompactReport& report) {
    const Method& method = *request.method;
    const KvSection& section = snapshot.sections.front();
    KVFOLD_CHECK(check_tokens(request.tokens, section, method));
    if (method.policy == Method::Policy::sequential)
        return fit_sequentially(model, map, snapshot, request, report);

    const Timer study_timer;
    KVFOLD_TRY(const Study study, study_region(model, map, snapshot, report.regions, request));
    report.study_s = study_timer.seconds();
    report.study_tokens = study.tokens();

    const Timer solve_timer;
    KVFOLD_TRY(Solution solution, method.own_budgets
                                      ? solve_nonuniform(section, report.regions, map, study, method.solve,
                                                         request.solve_limits(), request.progress)
                                      : solve_layers(section, report.regions, map, study, method.solve,
                                                     request.solve_limits(), request.progress));
    report.solve_s = solve_timer.seconds();
    if (method.policy == Method::Policy::refit)
        return refit_on_policy(model, map, snapshot, study, solution, request, report);
    return solution;
}

double mean_neutral(std::span<const HeadReport> heads) {
    double mean = 0;
    for (const HeadReport& head : heads)
        mean += static_cast<double>(head.neutral) / static_cast<double>(heads.size());
    return mean;
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
    if (request.method->chunk > 0) return compact_chunks(model, snapshot, report.regions, request);

    Solution solution;
    if (report.regions.folded > 0) {
        KVFOLD_TRY(const AttentionMap map, probe_attention(model, request.context));
        KVFOLD_TRY(solution, fit_region(model, map, snapshot, request, report));
    }
    SequenceState state = join_cells(snapshot, report.regions, solution);
    report.heads = std::move(solution.heads);
    report.cells_after = report.regions.cells_after();
    report.neutral_cells = mean_neutral(report.heads);
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
