#include "engine/compact.h"

#include "base/no_throw.h"
#include "engine/fold_chunks.h"
#include "engine/fold_once.h"
#include "engine/from_originals.h"
#include "engine/policy.h"
#include "state/folded_region.h"

namespace kvfold {

namespace {

Result<CompactState> fold_in_chunks(llama_model* model, const SequenceState& snapshot,
                                    const CompactRequest& request, const Regions& regions, size_t most) {
    const KvSection& section = snapshot.sections.front();
    KVFOLD_TRY(const std::vector<Chunk> chunks, plan_chunks(section, regions, most));
    if (chunks.size() > 1 && regions.tail.empty())
        return fail(ErrorCode::invalid_argument,
                    "all {} chunks are studied from the newest cells: keep_last must be 1 or more",
                    chunks.size());
    ChunkedSnapshot cells(snapshot, regions, chunks);
    const auto fold = [&](const Chunk& chunk, CompactRequest& step) -> Result<CompactReport> {
        KVFOLD_TRY(const auto now, cells.bring(chunk));
        const auto text = text_to_study(request.tokens, chunk, cells.tail_positions());
        step.tokens = text;
        KVFOLD_TRY(CompactState folded, fold_once(model, *now.state, now.regions, step));
        cells.put_back(chunk, std::move(folded.state));
        return std::move(folded.report);
    };
    KVFOLD_TRY(CompactReport report, fold_chunks(chunks, regions, request, fold));
    return CompactState{cells.take(), std::move(report)};
}

Result<CompactState> fold_all(llama_model* model, const SequenceState& snapshot,
                              const CompactRequest& request) {
    KVFOLD_TRY(const Regions regions,
               plan_regions(snapshot.sections.front(), request.budget, request.method->keep, request.seed));
    const auto folded_by = [&](size_t most) {
        return without_throwing([&] { return fold_in_chunks(model, snapshot, request, regions, most); });
    };
    size_t most = most_at_once(request);
    Result<CompactState> folded = folded_by(most);
    while (!folded && folded.error().code == ErrorCode::memory && request.most_cells > 0) {
        most = fewer_at_once(regions.region.size(), most);
        if (most == 0) break;
        Result<CompactState> in_pieces = folded_by(most);
        if (!in_pieces && in_pieces.error().code == ErrorCode::invalid_argument) break; // as no chunks can be
        folded = std::move(in_pieces);
    }
    return folded;
}

// Of the originals of what was folded before. Fails with not_found where the history does not have them.
Result<CompactState> fold_originals(llama_model* model, const SequenceState& snapshot,
                                    const CompactRequest& request, const FoldHistory& history) {
    const KvSection& section = snapshot.sections.front();
    FoldedState live{snapshot, request.budget, {}};
    KVFOLD_TRY(live.regions, plan_regions(section, request.budget, request.method->keep, request.seed));
    const auto anew = from_originals(live, request, folded_region(section).end, history);
    if (!anew) return fail(ErrorCode::not_found, "there are no originals");
    CompactRequest of_originals = request;
    of_originals.budget = anew->budget;
    KVFOLD_TRY(CompactState compact, fold_all(model, anew->state, of_originals));
    compact.report.cells_before = section.cells.size();
    return compact;
}

Result<CompactState> fold_all_anew(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request, const FoldHistory& history) {
    auto anew = without_throwing([&] { return fold_originals(model, snapshot, request, history); });
    const bool are_missing = !anew && anew.error().code == ErrorCode::not_found;
    const bool are_too_many = !anew && anew.error().code == ErrorCode::memory;
    return are_missing || are_too_many ? fold_all(model, snapshot, request) : std::move(anew);
}

} // namespace

Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request) {
    return without_throwing([&] { return fold_all(model, snapshot, request); });
}

Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request, const FoldHistory& history) {
    return without_throwing([&] { return fold_all_anew(model, snapshot, request, history); });
}

Result<CompactReport> compact_sequence(llama_context* ctx, llama_seq_id seq_id,
                                       const CompactRequest& request) {
    return without_throwing([&]() -> Result<CompactReport> {
        CompactRequest resolved = with_threads_of(ctx, request);
        if (resolved.kept && resolved.most_cells == 0)
            resolved.most_cells = folded_at_once(llama_n_ctx_seq(ctx), resolved.is_awaited);
        return fold_in_place(ctx, seq_id, resolved, [&](const SequenceState& snapshot) {
            if (!resolved.kept) return fold_all(model_of(ctx), snapshot, resolved);
            const FoldHistory history = resolved.kept->history(snapshot.sections.front());
            return fold_all_anew(model_of(ctx), snapshot, resolved, history);
        });
    });
}

} // namespace kvfold
