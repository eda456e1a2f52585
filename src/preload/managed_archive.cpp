// Cuts inside a fold: what the fold replaced is taken back out of the archive.
#include "preload/managed_context.h"

#include "preload/log.h"
#include "preload/real.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

// That the sequence will have of its own.
size_t cells_before(const ReplacedCells& cells, llama_pos end) {
    const auto is_before = [&](const CellMeta& cell) { return cell.pos < end; };
    return cells.folded.cells.size() +
           static_cast<size_t>(std::ranges::count_if(cells.originals.cells, is_before));
}

} // namespace

// What stood before the cut stands there again, and then the program cuts. Nothing, and the sequence is as it
// was: the archive does not have it, or there is no room.
std::optional<bool> ManagedContext::take_back(llama_seq_id seq_id, llama_pos end, Original<bool> original) {
    Held before;
    bool is_back = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (!fold_at(books_.history(seq_id), end) || shift_is_due_) return;
        before = held_by(seq_id);
        touch(seq_id, 0);
        is_back = put_back(seq_id, end);
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

bool ManagedContext::put_back(llama_seq_id seq_id, llama_pos end) {
    make_room_for(seq_id, cells_before(*fold_at(books_.history(seq_id), end), end));
    const ReplacedCells* cells = fold_at(books_.history(seq_id), end); // while room was made, others folded
    if (!cells) return false;
    if (cells_before(*cells, end) > room_for(seq_id)) return fold_back(seq_id, *cells, end);
    const Status status = kvfold::take_back(ctx_, seq_id, *cells, end, books_);
    if (!status) log_warning("{}: {}", name(seq_id), status.error().message);
    return status.has_value();
}

// What stood before the cut is folded anew, because it does not fit.
bool ManagedContext::fold_back(llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end) {
    if (!policy_.automatic || cells.untouched_end > 0) return false;
    const auto now = read_sequence(ctx_, seq_id);
    if (!now) return false;
    const SequenceState back = taken_back(*now, cells, end);
    const std::vector<llama_token>& all = books_.tokens(seq_id);
    std::vector<llama_token> tokens(all.begin(), all.begin() + end);
    if (std::ranges::find(tokens, LLAMA_TOKEN_NULL) != tokens.end()) tokens.clear();
    const auto folded = folded_to_fit(back, tokens, room_for(seq_id));
    if (!folded || !write_sequence(ctx_, seq_id, *folded)) return false;
    const std::vector<int32_t> positions = sorted_positions(folded->sections.front());
    const llama_pos fold_end = folded_region(positions).end, begin = cells.begin;
    FoldHistory history = books_.history(seq_id);
    std::erase_if(history, [&](const auto& fold) { return fold->end() > begin; });
    auto kept = archive_.keep(replaced_cells(back.sections.front(), 0, begin, fold_end - 1));
    if (kept) history.push_back(std::move(kept));
    books_.learn(seq_id, positions, fold_end, std::move(tokens));
    books_.set_history(seq_id, std::move(history));
    return true;
}

Result<size_t> ManagedContext::unfold(llama_seq_id seq_id) {
    const MutexLock lock(mutex_);
    const Inside inside;
    if (closed_ || !books_.holds(seq_id)) return fail(ErrorCode::not_found, "slot {} holds nothing", seq_id);
    if (shift_is_due_)
        return fail(ErrorCode::busy, "llama.cpp moves its cells at the next decode; try again behind it");
    const llama_pos fold_end = books_.fold_of(seq_id).end;
    if (fold_end == 0) return fail(ErrorCode::invalid_argument, "slot {} is not folded", seq_id);
    const auto cells = all_replaced(books_.history(seq_id), fold_end);
    if (!cells)
        return fail(
            ErrorCode::unsupported,
            "the archive does not hold what slot {} had before it was folded; --archive gives it more room",
            seq_id);
    const size_t behind = books_.cells(seq_id) - books_.fold_of(seq_id).cells;
    const size_t needed = cells_before(*cells, cells->end) + behind;
    if (needed > room_for(seq_id))
        return fail(ErrorCode::memory, "slot {} would take {} cells, and has room for {}", seq_id, needed,
                    room_for(seq_id));
    touch(seq_id, 0);
    KVFOLD_CHECK(kvfold::take_back(ctx_, seq_id, *cells, cells->end, books_));
    refused_[seq_id] = books_.end(seq_id); // else it might be folded again at once
    return books_.cells(seq_id);
}

} // namespace kvfold::preload
