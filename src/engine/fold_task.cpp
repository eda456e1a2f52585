#include "engine/fold_task.h"

#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold {

namespace {

template <class Wanted> std::vector<uint32_t> cells_where(const KvSection& section, Wanted wanted) {
    std::vector<uint32_t> cells;
    for (uint32_t i = 0; i < section.cells.size(); ++i) {
        if (wanted(section.cells[i].pos)) cells.push_back(i);
    }
    return cells;
}

} // namespace

Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const SequenceLog& log) {
    auto task = std::make_unique<FoldTask>();
    task->seq_id = seq_id;
    if (log.knows_all_tokens()) task->tokens = log.tokens();
    task->request = std::move(request);
    task->request.tokens = task->tokens;
    KVFOLD_TRY(task->snapshot, read_sequence(ctx, seq_id));
    const KvSection& section = task->snapshot.sections.front();
    KVFOLD_TRY(const Regions regions,
               plan_regions(section, task->request.budget, task->request.method->keep, task->request.seed));
    if (regions.region.empty())
        return fail(ErrorCode::invalid_argument, "sequence {} has nothing to fold at this ratio", seq_id);
    task->region_size = regions.region.size();
    // Behind the head, not at the region's first cell: folded cells stand anywhere in what they stand for.
    const llama_pos first = section.cells[regions.head.back()].pos + 1;
    task->fold = {first, section.cells[regions.region.back()].pos + 1,
                  regions.folded + static_cast<uint32_t>(regions.pinned.size())};
    if (!log.fold().empty() && log.fold().begin < first) { // the older fold stays, as part of the head
        task->fold.begin = log.fold().begin;
        const auto joins = [&](llama_pos pos) { return pos >= task->fold.begin && pos < first; };
        task->fold.cells += static_cast<uint32_t>(cells_where(section, joins).size());
    }
    return task;
}

Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact) {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx, task.seq_id));
    const auto is_old = [&](llama_pos pos) { return pos <= task.last(); };
    const auto is_new = [&](llama_pos pos) { return pos > task.last(); };
    KvSection& now = state.sections.front();
    if (cells_where(now, is_old).size() != cells_where(task.snapshot.sections.front(), is_old).size())
        return fail(ErrorCode::internal, "sequence {} changed while it was folded", task.seq_id);
    const KvSection& folded = compact.sections.front();
    KvSection joined = take_cells(folded, cells_where(folded, is_old));
    joined.streams = now.streams;
    joined.stream = now.stream;
    append_cells(joined, take_cells(now, cells_where(now, is_new)));
    now = std::move(joined);
    return write_sequence(ctx, task.seq_id, state);
}

} // namespace kvfold
