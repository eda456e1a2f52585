#include "engine/fold_task.h"

#include "state/folded_region.h"
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

size_t count_behind(const FoldTask& task, const std::vector<int32_t>& live) {
    return static_cast<size_t>(live.end() - std::ranges::lower_bound(live, task.folded_end));
}

// What earlier folds replaced, where the task is to fold cells of theirs. live: positions of the sequence,
// rising. Nothing for baselines, which wear no cell; where the new fold would end before the old one, at an
// image; and where it takes several chunks and no newest cells are there for their studies to ask from.
std::optional<ReplacedCells> originals_of(const FoldTask& task, const std::vector<int32_t>& live,
                                          const Books& books) {
    const auto kept = static_cast<size_t>(task.request.budget.keep_first);
    if (kept >= task.untouched + task.folded.cells.size() || task.request.method->keep != Keep::fit)
        return std::nullopt;
    auto originals = all_replaced(books.history(task.seq_id), task.folded_end);
    if (!originals) return std::nullopt;
    const std::vector<CellMeta>& cells = originals->originals.cells;
    const size_t most = task.request.most_cells;
    const bool is_chunked = most > 0 && cells.size() > most;
    if (is_embedding(cells.back()) || (is_chunked && count_behind(task, live) == 0)) return std::nullopt;
    return originals;
}

// In the place of the cells that were made of them; the sequence is to become as small as without them. No
// more than all of what stands behind the folds is left as it is: else a part of what they replaced would be.
void put_originals(FoldTask& task, const std::vector<int32_t>& live, const ReplacedCells& originals) {
    constexpr int kTail = 32; // as plan_regions keeps at most where nobody says how many
    Budget& budget = task.request.budget;
    task.snapshot = taken_back(task.snapshot, originals, originals.end);
    budget.keep_last =
        std::min(budget.keep_last < 0 ? kTail : budget.keep_last, static_cast<int>(count_behind(task, live)));
    budget.ratio *=
        static_cast<double>(task.snapshot.sections.front().cells.size()) / static_cast<double>(live.size());
}

} // namespace

Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const Books& books) {
    auto task = std::make_unique<FoldTask>();
    task->seq_id = seq_id;
    if (books.knows_all_tokens(seq_id)) task->tokens = books.tokens(seq_id);
    task->request = std::move(request);
    task->request.tokens = task->tokens;
    task->folded_end = books.fold_of(seq_id).end;
    task->untouched = static_cast<size_t>(task->request.budget.untouched);
    KVFOLD_TRY(task->snapshot, read_sequence(ctx, seq_id));
    const std::vector<int32_t> live = sorted_positions(task->snapshot.sections.front());
    task->folded =
        replaced_cells(task->snapshot.sections.front(), task->untouched, task->folded_end, -1).folded;
    if (const auto originals = originals_of(*task, live, books)) put_originals(*task, live, *originals);
    const KvSection& section = task->snapshot.sections.front();
    KVFOLD_TRY(const Regions regions,
               plan_regions(section, task->request.budget, task->request.method->keep, task->request.seed));
    const auto last = regions.last_cell();
    if (!last)
        return fail(ErrorCode::invalid_argument, "sequence {} has nothing to fold at this ratio", seq_id);
    task->last = section.cells[*last].pos;
    task->cells = static_cast<size_t>(std::ranges::upper_bound(live, task->last) - live.begin());
    task->region_size = regions.region.size();
    return task;
}

ReplacedCells replaced_cells(const FoldTask& task) {
    ReplacedCells cells =
        replaced_cells(task.snapshot.sections.front(), task.untouched, task.folded_end, task.last);
    cells.folded = task.folded; // the snapshot may have what they were made of
    return cells;
}

Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact, Books& books,
                    std::shared_ptr<const ArchivedFold> replaced) {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx, task.seq_id));
    const auto is_old = [&](llama_pos pos) { return pos <= task.last; };
    const auto is_new = [&](llama_pos pos) { return pos > task.last; };
    KvSection& now = state.sections.front();
    if (cells_where(now, is_old).size() != task.cells ||
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
        books.fold(task.seq_id, task.last, task.untouched, old_cells.size() - task.untouched,
                   std::move(replaced));
    } else if (written.error().code == ErrorCode::lost) {
        for (const Books::Shared& each : shared)
            books.remove(each.seq_id, each.p0, each.p1);
        books.remove(task.seq_id, -1, -1);
    }
    return written;
}

Status take_back(llama_context* ctx, llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end,
                 Books& books) {
    KVFOLD_TRY(const SequenceState now, read_sequence(ctx, seq_id));
    std::vector<Books::Shared> shared = books.shared(seq_id);
    std::erase_if(shared, [&](const Books::Shared& each) { return each.p1 > cells.untouched_end; });
    const Status written = write_shared_sequence(ctx, seq_id, taken_back(now, cells, end), shared);
    if (written) {
        books.take_back(seq_id, cells, end);
    } else if (written.error().code == ErrorCode::lost) {
        books.remove(seq_id, -1, -1);
    }
    return written;
}

} // namespace kvfold
