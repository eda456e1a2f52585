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

// The sequence's cells are replaced while nobody shares them, and are shared again then: with the new ones,
// or, if llama.cpp refuses these, with the old ones.
Status write_shared_sequence(llama_context* ctx, llama_seq_id seq_id, const SequenceState& state,
                             const std::vector<Books::Shared>& shared) {
    llama_memory_t memory = llama_get_memory(ctx);
    for (const Books::Shared& each : shared)
        llama_memory_seq_rm(memory, each.seq_id, each.p0, each.p1);
    Status written = write_sequence(ctx, seq_id, state);
    for (const Books::Shared& each : shared)
        llama_memory_seq_cp(memory, seq_id, each.seq_id, each.p0, each.p1);
    return written;
}

} // namespace

Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const Books& books) {
    auto task = std::make_unique<FoldTask>();
    task->seq_id = seq_id;
    if (books.knows_all_tokens(seq_id)) task->tokens = books.tokens(seq_id);
    task->request = std::move(request);
    task->request.tokens = task->tokens;
    KVFOLD_TRY(task->snapshot, read_sequence(ctx, seq_id));
    const KvSection& section = task->snapshot.sections.front();
    KVFOLD_TRY(const Regions regions,
               plan_regions(section, task->request.budget, task->request.method->keep, task->request.seed));
    const auto last = regions.last_cell();
    if (!last)
        return fail(ErrorCode::invalid_argument, "sequence {} has nothing to fold at this ratio", seq_id);
    task->untouched = regions.untouched;
    task->last = section.cells[*last].pos;
    task->region_size = regions.region.size();
    return task;
}

Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact, Books& books) {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx, task.seq_id));
    const auto is_old = [&](llama_pos pos) { return pos <= task.last; };
    const auto is_new = [&](llama_pos pos) { return pos > task.last; };
    KvSection& now = state.sections.front();
    if (cells_where(now, is_old).size() != cells_where(task.snapshot.sections.front(), is_old).size() ||
        !books.has_same_owners(task.seq_id, task.last, task.untouched) ||
        !books.shares_by_position(task.seq_id))
        return fail(ErrorCode::cancelled, "sequence {} changed while it was folded", task.seq_id);
    const KvSection& folded = compact.sections.front();
    const std::vector<uint32_t> old_cells = cells_where(folded, is_old);
    KvSection joined = take_cells(folded, old_cells);
    append_cells(joined, take_cells(now, cells_where(now, is_new)));
    now = std::move(joined);
    const std::vector<Books::Shared> shared = books.shared(task.seq_id);
    const Status written = write_shared_sequence(ctx, task.seq_id, state, shared);
    if (written) {
        books.fold(task.seq_id, task.last, task.untouched, old_cells.size() - task.untouched);
    } else if (written.error().code == ErrorCode::lost) {
        for (const Books::Shared& each : shared)
            books.remove(each.seq_id, each.p0, each.p1);
        books.remove(task.seq_id, -1, -1);
    }
    return written;
}

} // namespace kvfold
