// Cuts inside a fold: what the fold replaced is taken back out of the archive.
#include "preload/managed_context.h"

#include "base/no_throw.h"
#include "preload/log.h"
#include "preload/real.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

constexpr llama_seq_id kAllSequences = -1;

// That the sequence will have of its own.
size_t count_before(const ReplacedCells& cells, llama_pos end) {
    const auto is_before = [&](const CellMeta& cell) { return cell.pos < end; };
    return cells.folded.cells.size() +
           static_cast<size_t>(std::ranges::count_if(cells.originals.cells, is_before));
}

} // namespace

// Copied without the lock, for it is as much as was folded. Null: it is not kept, which a fold can do
// without.
std::shared_ptr<ArchivedFold> ManagedContext::replaced_by(const FoldTask& task,
                                                          const CompactState& compact) const {
    if (sizes_.archive_bytes == 0) return nullptr;
    try {
        return archived_fold(task, compact, recalled_by());
    } catch (const std::exception& error) {
        log_warning("what was folded cannot be kept: {}", error.what());
        return nullptr;
    }
}

// How far back a sequence can be cut. What a program is told it may cut must not fail: either the cells have
// room, or the text is known and can be folded anew, or read again.
llama_pos ManagedContext::first_cut(llama_seq_id seq_id) const {
    const Books::Fold fold = books_.fold_of(seq_id);
    const FoldHistory& history = books_.history(seq_id);
    size_t most = 0; // cells that a cut brings back
    for (const auto& cells : history.each(fold.end))
        most = std::max(most, count_before(*cells, cells->end));
    const bool can_be_folded = policy_.automatic && books_.knows_all_tokens(seq_id);
    return most <= room_for(seq_id) || can_be_folded ? history.first_cut(fold.end) : fold.end;
}

// What stood before the cut stands there again, and then the program cuts. Nothing, and the sequence is as it
// was: the archive does not have it, or there is no room.
std::optional<bool> ManagedContext::take_back(llama_seq_id seq_id, llama_pos end, Original<bool> original) {
    Held before;
    bool is_back = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        const auto cells = books_.history(seq_id).at(end); // ours, even if room has to be made in the archive
        if (!cells || shift_is_due_ || !has_window_for(seq_id, end)) return;
        touch(seq_id, 0); // a fold of it that runs is not waited for
        make_room_for(seq_id, count_before(*cells, end));
        drop_recalled_of(seq_id);
        auto now = without_throwing([&]() KVFOLD_REQUIRES(mutex_) {
            before = held_by(seq_id);
            return before_cut(seq_id, *cells, end);
        });
        const Status status = now ? become(seq_id, *std::move(now)) : Status(tl::unexpected(now.error()));
        is_back = status.has_value();
        if (!is_back) log_warning("{}: {}", name(seq_id), status.error().message);
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

// A fold up to there that stands behind a beginning is told by the first position from then on.
void ManagedContext::gather_fold(SequenceState& state, llama_pos end) const {
    if (is_plain()) gather_before(state.sections.front(), end);
}

// What stood there; folded anew where it has no room.
Result<ManagedContext::KnownSequence>
ManagedContext::before_cut(llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end) const {
    KVFOLD_TRY(const SequenceState now, read_sequence(ctx_, seq_id));
    const std::vector<llama_token>& all = books_.tokens(seq_id);
    KnownSequence back{
        cut_back(now, cells, end), {{all.begin(), all.begin() + end}, books_.history(seq_id)}, {}};
    back.known.history.cut(cells.begin);
    gather_fold(back.state, cells.begin);
    const size_t count = count_before(cells, end), room = room_for(seq_id);
    if (count <= room) return back;
    if (policy_.automatic) return folded_to_fit(back.state, back.known, room);
    return fail(ErrorCode::busy, "{} cells have no room, and nothing is folded without being told to", count);
}

// On failure the sequence holds what it held, but for `lost`: then it is empty.
Status ManagedContext::become(llama_seq_id seq_id, KnownSequence now) {
    touch(seq_id, 0);
    const Status written = write_sequence(ctx_, seq_id, now.state);
    if (!written) {
        relearn_own(seq_id);
        return written;
    }
    archive_.admit(now.replaced);
    const KvSection& section = now.state.sections.front();
    learn(seq_id, section, folded_region(section).end, std::move(now.known.tokens));
    books_.set_history(seq_id, std::move(now.known.history));
    return written;
}

Result<size_t> ManagedContext::unfold(llama_seq_id seq_id) {
    const MutexLock lock(mutex_);
    const Inside inside;
    if (closed_ || !books_.holds(seq_id)) return fail(ErrorCode::not_found, "slot {} holds nothing", seq_id);
    if (shift_is_due_)
        return fail(ErrorCode::busy, "llama.cpp moves its cells at the next decode; try again behind it");
    if (promised_.contains(seq_id) || promised_.contains(kAllSequences))
        return fail(ErrorCode::busy, "slot {} is being saved; try again", seq_id);
    Result<size_t> cells = fail(ErrorCode::internal, "the log says why");
    note([&]() KVFOLD_REQUIRES(mutex_) {
        auto now = without_throwing([&]() KVFOLD_REQUIRES(mutex_) { return without_newest_folds(seq_id); });
        const Status status = now ? become(seq_id, *std::move(now)) : Status(tl::unexpected(now.error()));
        cells = status ? Result<size_t>(books_.cells(seq_id)) : tl::unexpected(status.error());
    });
    return cells;
}

// Without as many of them as there is room for.
Result<ManagedContext::KnownSequence> ManagedContext::without_newest_folds(llama_seq_id seq_id) const {
    const llama_pos fold_end = books_.fold_of(seq_id).end;
    if (fold_end == 0) return fail(ErrorCode::invalid_argument, "slot {} is not folded", seq_id);
    const auto folds = books_.history(seq_id).each(fold_end);
    if (folds.empty())
        return fail(
            ErrorCode::not_found,
            "the archive does not hold what slot {} had before it was folded: it had no room (raise --archive), the slot "
            "file came without its own archive (--archive-dir, the log says why), or the fold stands behind a beginning that other slots share",
            seq_id);
    const size_t behind = books_.cells(seq_id) - books_.fold_of(seq_id).cells, room = room_for(seq_id);
    const auto newest = newest_that_fit(folds, behind, room);
    if (newest.empty())
        return fail(
            ErrorCode::busy,
            "slot {} would take {} cells without its newest fold, and has room for {}; give more cells (-c)",
            seq_id, behind + count_before(*folds.back(), fold_end), room);
    KVFOLD_TRY(const SequenceState now, read_sequence(ctx_, seq_id));
    KnownSequence back{unfolded(now, as_one(newest)), {books_.tokens(seq_id), books_.history(seq_id)}, {}};
    back.known.history.cut(newest.front()->begin);
    gather_fold(back.state, newest.front()->begin);
    return back;
}

} // namespace kvfold::preload
