#include "engine/compact.h"

#include "base/no_throw.h"
#include "engine/fold_chunks.h"
#include "engine/fold_once.h"

namespace kvfold {

namespace {

Result<CompactState> fold_all(llama_model* model, const SequenceState& snapshot,
                              const CompactRequest& request) {
    const KvSection& section = snapshot.sections.front();
    KVFOLD_TRY(const Regions regions,
               plan_regions(section, request.budget, request.method->keep, request.seed));
    KVFOLD_TRY(const std::vector<Chunk> chunks, plan_chunks(section, regions, most_at_once(request)));
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

} // namespace

Result<CompactState> compact_state(llama_model* model, const SequenceState& snapshot,
                                   const CompactRequest& request) {
    return without_throwing([&] { return fold_all(model, snapshot, request); });
}

Result<CompactReport> compact_sequence(llama_context* ctx, llama_seq_id seq_id,
                                       const CompactRequest& request) {
    return without_throwing([&]() -> Result<CompactReport> {
        const CompactRequest resolved = with_threads_of(ctx, request);
        return fold_in_place(ctx, seq_id, request.progress, [&](const SequenceState& snapshot) {
            return fold_all(model_of(ctx), snapshot, resolved);
        });
    });
}

} // namespace kvfold
