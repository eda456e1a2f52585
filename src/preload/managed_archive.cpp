// Cuts inside a fold: what the fold replaced is taken back out of the archive.
#include "preload/managed_context.h"

#include "preload/log.h"
#include "preload/real.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

constexpr llama_seq_id kAllSequences = -1;

// That the sequence will have of its own.
size_t cells_before(const ReplacedCells& cells, llama_pos end) {
    const auto is_before = [&](const CellMeta& cell) { return cell.pos < end; };
    return cells.folded.cells.size() +
           static_cast<size_t>(std::ranges::count_if(cells.originals.cells, is_before));
}

} // namespace

// Copied without the lock, for it is as much as was folded. Null: it is not kept, which a fold can do
// without.
std::shared_ptr<ArchivedFold> ManagedContext::replaced_by(const FoldTask& task) const {
    if (sizes_.archive_bytes == 0) return nullptr;
    try {
        return archived_fold(task, recalled_by());
    } catch (const std::exception& error) {
        log_warning("what was folded cannot be kept: {}", error.what());
        return nullptr;
    }
}

// How far back a sequence can be cut. What a program is told it may cut must not fail: either the cells have
// room, or the text is known and can be folded anew, or read again.
llama_pos ManagedContext::first_cut(llama_seq_id seq_id) const {
    const Books::Fold fold = books_.fold_of(seq_id);
    const llama_pos first = books_.history(seq_id).first_cut(fold.end);
    const bool fits = fold.cells + static_cast<size_t>(fold.end - first) <= room_for(seq_id);
    const bool can_be_folded = policy_.automatic && books_.knows_all_tokens(seq_id);
    return fits || can_be_folded ? first : fold.end;
}

// What stood before the cut stands there again, and then the program cuts. Nothing, and the sequence is as it
// was: the archive does not have it, or there is no room.
std::optional<bool> ManagedContext::take_back(llama_seq_id seq_id, llama_pos end, Original<bool> original) {
    Held before;
    bool is_back = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        const auto cells = books_.history(seq_id).at(end); // ours, even if room has to be made in the archive
        if (!cells || shift_is_due_ || !has_window_for(seq_id, end)) return;
        make_room_for(seq_id, cells_before(*cells, end));
        before = held_by(seq_id);
        touch(seq_id, 0);
        const Status status = put_back(seq_id, *cells, end);
        is_back = status.has_value();
        if (is_back) return;
        log_warning("{}: {}", name(seq_id), status.error().message);
        end_restore(seq_id, false, {}, std::move(before));
    });
    if (!is_back) return std::nullopt;
    const bool removed = original(); // of a sliding window, or of a recurrent state
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (!removed) return end_restore(seq_id, false, {}, std::move(before));
        edits_.cut(seq_id, end, before.known.tokens);
        journal_.took_back();
        log_info("{}: cut at {} inside its folded part; {} cells stand there again", name(seq_id), end,
                 books_.cells(seq_id));
    });
    return removed;
}

Status ManagedContext::put_back(llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end) {
    if (cells_before(cells, end) > room_for(seq_id)) return fold_back(seq_id, cells, end);
    return cut_back(ctx_, seq_id, cells, end, books_);
}

// What stood before the cut is folded anew, because it does not fit.
Status ManagedContext::fold_back(llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end) {
    if (!policy_.automatic)
        return fail(ErrorCode::busy, "{} cells have no room, and nothing is folded without being told to",
                    cells_before(cells, end));
    KVFOLD_TRY(const SequenceState now, read_sequence(ctx_, seq_id));
    const SequenceState back = cut_back(now, cells, end);
    const std::vector<llama_token>& all = books_.tokens(seq_id);
    std::vector<llama_token> tokens(all.begin(), all.begin() + end);
    KnownState known{std::move(tokens), books_.history(seq_id)};
    known.history.cut(cells.begin);
    KVFOLD_TRY(const SequenceState folded, folded_to_fit(back, known, room_for(seq_id)));
    KVFOLD_CHECK(write_sequence(ctx_, seq_id, folded));
    const std::vector<int32_t> positions = sorted_positions(folded.sections.front());
    books_.learn(seq_id, positions, folded_region(positions).end, std::move(known.tokens));
    books_.set_history(seq_id, std::move(known.history));
    return {};
}

Result<size_t> ManagedContext::unfold(llama_seq_id seq_id) {
    const MutexLock lock(mutex_);
    const Inside inside;
    if (closed_ || !books_.holds(seq_id)) return fail(ErrorCode::not_found, "slot {} holds nothing", seq_id);
    if (shift_is_due_)
        return fail(ErrorCode::busy, "llama.cpp moves its cells at the next decode; try again behind it");
    if (promised_.contains(seq_id) || promised_.contains(kAllSequences))
        return fail(ErrorCode::busy, "slot {} is being saved; try again", seq_id);
    const llama_pos fold_end = books_.fold_of(seq_id).end;
    if (fold_end == 0) return fail(ErrorCode::invalid_argument, "slot {} is not folded", seq_id);
    const auto cells = books_.history(seq_id).all(fold_end);
    if (!cells)
        return fail(
            ErrorCode::not_found,
            "the archive does not hold what slot {} had before it was folded: it had no room (raise --archive), the slot "
            "file came without its archive (--archive-dir), or the fold stands behind a beginning that other slots share",
            seq_id);
    const size_t behind = books_.cells(seq_id) - books_.fold_of(seq_id).cells; // recalled ones are none of it
    const size_t needed = cells_before(*cells, cells->end) + behind;
    if (needed > room_for(seq_id))
        return fail(ErrorCode::busy, "slot {} would take {} cells, and has room for {}; give more cells (-c)",
                    seq_id, needed, room_for(seq_id));
    KVFOLD_CHECK(drop_recalled(seq_id));
    touch(seq_id, 0);
    const FoldHistory history = books_.history(seq_id);
    const std::vector<llama_token> tokens = books_.tokens(seq_id);
    const Status status = kvfold::unfold(ctx_, seq_id, *cells, books_);
    if (status) return books_.cells(seq_id);
    relearn(seq_id, tokens);
    books_.set_history(seq_id, history);
    return tl::unexpected(status.error());
}

} // namespace kvfold::preload
