#include "engine/fold_task.h"

#include "base/no_throw.h"
#include "engine/from_originals.h"
#include "engine/policy.h"
#include "engine/recall.h"
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

size_t count_cells(const KvSection& section, llama_pos last) {
    return static_cast<size_t>(
        std::ranges::count_if(section.cells, [&](const CellMeta& cell) { return cell.pos <= last; }));
}

// What was folded before and what `live` would fold beside it, as one fold up to the same position.
std::optional<FoldedState> together_from_originals(const FoldedState& live, const CompactRequest& request,
                                                   int32_t folded_end, const FoldHistory& history) {
    if (!request.together) return std::nullopt;
    CompactRequest whole = request;
    whole.budget = *request.together;
    const KvSection& section = live.state.sections.front();
    auto regions = plan_regions(section, whole.budget, request.method->keep, request.seed);
    const auto last = [&](const Regions& of) { return section.cells[*of.last_cell()].pos; };
    if (!regions || !regions->last_cell() || last(*regions) != last(live.regions)) return std::nullopt;
    return from_originals({live.state, whole.budget, *std::move(regions)}, whole, folded_end, history);
}

} // namespace

Result<std::unique_ptr<FoldTask>> prepare_fold(llama_context* ctx, llama_seq_id seq_id,
                                               CompactRequest request, const Books& books) {
    auto task = std::make_unique<FoldTask>();
    task->seq_id = seq_id;
    if (books.knows_all_tokens(seq_id)) task->tokens = books.tokens(seq_id);
    task->request = std::move(request);
    task->request.tokens = task->tokens;
    task->request.most_cells = folded_at_once(llama_n_ctx_seq(ctx), task->request.is_awaited);
    FoldedState plan;
    plan.budget = task->request.budget;
    KVFOLD_TRY(plan.state, read_sequence(ctx, seq_id));
    if (const Books::Recalled recalled = books.recalled(seq_id); recalled.cells > 0)
        plan.state = without_recalled(plan.state, recalled.pos);
    const KvSection& section = plan.state.sections.front();
    KVFOLD_TRY(plan.regions,
               plan_regions(section, plan.budget, task->request.method->keep, task->request.seed));
    const auto last = plan.regions.last_cell();
    if (!last)
        return fail(ErrorCode::invalid_argument, "sequence {} has nothing to fold at this ratio", seq_id);
    task->untouched = plan.regions.untouched;
    task->last = section.cells[*last].pos;
    task->cells = count_cells(section, task->last);
    task->folded_end = books.fold_of(seq_id, task->last).end;
    task->folded = replaced_cells(section, task->folded_end, task->last).folded;
    const FoldHistory& history = books.history(seq_id);
    // They are left where there is no memory for them, as they are where there are none.
    auto originals = without_throwing([&]() -> Result<std::optional<FoldedState>> {
        auto all = together_from_originals(plan, task->request, task->folded_end, history);
        return all ? std::move(all) : from_originals(plan, task->request, task->folded_end, history);
    });
    const bool is_refold = section.cells[plan.regions.region.front()].pos < task->folded_end;
    const auto before = history.each(task->folded_end);
    if (originals && *originals)
        plan = **std::move(originals);
    else if (!is_refold && !before.empty())
        task->kept = before.back()->kept_keys;
    task->snapshot = std::move(plan.state);
    task->request.budget = plan.budget;
    task->region_size = plan.regions.region.size();
    return task;
}

std::shared_ptr<ArchivedFold> archived_fold(const FoldTask& task, const CompactState& compact,
                                            const AttentionMap* map) {
    if (task.untouched > 0) return nullptr;
    ReplacedCells cells = replaced_cells(task.snapshot.sections.front(), task.folded_end, task.last);
    if (cells.originals.cells.empty()) return nullptr;
    cells.folded = task.folded; // the snapshot may have what they were made of
    cells.kept_keys = kept_keys(compact.report.heads, compact.report.region_positions, task.kept);
    return archived(std::move(cells), compact.state.sections.front(), map);
}

Status put_in_place(llama_context* ctx, const FoldTask& task, const SequenceState& compact, Books& books,
                    std::shared_ptr<const ArchivedFold> replaced) {
    KVFOLD_TRY(SequenceState state, read_sequence(ctx, task.seq_id));
    const auto is_old = [&](llama_pos pos) { return pos <= task.last; };
    const auto is_new = [&](llama_pos pos) { return pos > task.last; };
    KvSection& now = state.sections.front();
    if (count_cells(now, task.last) != task.cells ||
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

} // namespace kvfold
