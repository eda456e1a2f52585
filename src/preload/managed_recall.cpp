// While a prompt is read behind a fold it asks, and what it asks for stands beside the folded cells from its
// last token on.
#include "preload/managed_context.h"

#include "base/no_throw.h"
#include "base/timer.h"
#include "engine/ask.h"
#include "model/context.h"
#include "preload/log.h"
#include "preload/real.h"
#include "state/live_sequence.h"
#include "study/listen.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

constexpr Index kMostSpoken = 32; // entries of a batch that is listened to: prompts have asked already

bool is_alone(const BatchEntry& entry) { return entry.seq_ids.size() == 1; }

// By sequence, the places in the batch of what the model says to it alone.
std::map<llama_seq_id, std::vector<Index>> spoken_in(std::span<const BatchEntry> entries,
                                                     const std::set<llama_seq_id>& prompts) {
    std::map<llama_seq_id, std::vector<Index>> spoken;
    for (size_t i = 0; i < entries.size(); ++i) {
        const BatchEntry& entry = entries[i];
        if (is_alone(entry) && entry.output && !prompts.contains(entry.seq_ids.front()))
            spoken[entry.seq_ids.front()].push_back(static_cast<Index>(i));
    }
    return spoken;
}

} // namespace

// What goes wrong here costs the sequence its recalled cells and nothing else.
void ManagedContext::note_recall(llama_seq_id seq_id, const Result<size_t>& recalled, double seconds) {
    if (!recalled) {
        log_warning("{}: nothing is recalled: {}", name(seq_id), recalled.error().message);
    } else if (*recalled > 0) {
        journal_.recalled(seconds);
        log_debug("{}: {} cells recalled in {:.0f} ms", name(seq_id), *recalled, 1000 * seconds);
    }
}

// Of an answer the program wants every output. A sequence that was cut to where a prompt stands, or restored,
// goes on with a prompt, though that may be one token: an answer that is asked for once more.
void ManagedContext::note_prompts(std::span<const BatchEntry> entries) {
    prompts_.clear();
    std::set<llama_seq_id> seen;
    for (const BatchEntry& entry : entries) {
        for (const llama_seq_id seq_id : entry.seq_ids) {
            if (!entry.output) prompts_.insert(seq_id);
            if (!seen.insert(seq_id).second) continue;
            const auto end = ends_.find(seq_id);
            const bool is_left = end != ends_.end() && end->second <= books_.end(seq_id);
            if (!is_left && !books_.ends_with_answer(seq_id)) prompts_.insert(seq_id);
        }
    }
    for (const llama_seq_id seq_id : prompts_)
        paces_.erase(seq_id); // its answer begins anew
    for (const BatchEntry& entry : entries) {
        for (const llama_seq_id seq_id : entry.seq_ids) {
            // llama.cpp has lost what a window needs, and the program starts over.
            if (entry.pos >= 0 && entry.pos < books_.end(seq_id)) drop_recalled_of(seq_id);
        }
    }
}

// By rising place in the batch.
std::vector<ManagedContext::Asking>
ManagedContext::prompts_that_ask(std::span<const BatchEntry> entries) const {
    if (recalling_.cells == 0 || shift_is_due_) return {};
    std::set<llama_seq_id> found;
    std::vector<Asking> asking;
    for (size_t last = entries.size(); last-- > 0;) {
        if (!is_alone(entries[last])) continue;
        const llama_seq_id seq_id = entries[last].seq_ids.front();
        if (!prompts_.contains(seq_id) || !found.insert(seq_id).second) continue;
        size_t first = last; // llama.cpp may read the entries of several sequences in another order
        while (first > 0 && last - first < kHeardOfPrompt && is_alone(entries[first - 1]) &&
               entries[first - 1].seq_ids.front() == seq_id)
            --first;
        const bool goes_on = entries[first].pos < 0 || entries[first].pos >= books_.end(seq_id);
        if (goes_on && can_recall(seq_id, entries.size()))
            asking.push_back({seq_id, first, last, entries[last].output});
    }
    std::ranges::reverse(asking);
    return asking;
}

// heard: what the prompt asked while it was read; of no layers where it goes on with one token.
void ManagedContext::recall_for(const Asking& prompt, const Study& heard, size_t coming) {
    const llama_seq_id seq_id = prompt.seq_id;
    if (!can_recall(seq_id, coming)) return;
    const Timer timer;
    const auto count = static_cast<size_t>(heard.tokens());
    const std::vector<llama_token>& known = books_.tokens(seq_id);
    const auto behind = static_cast<size_t>(books_.end(seq_id) - books_.fold_of(seq_id).end);
    const auto newest = std::span(known).last(std::min({known.size(), behind, kAskingOfPrompt / 2}));
    const bool asks_again = prompt.ends && count < kFewestAsking && newest.size() > count &&
                            newest.size() <= free_cells(seq_id) &&
                            std::ranges::find(newest, LLAMA_TOKEN_NULL) == newest.end() &&
                            (is_plain() || books_.shared(seq_id).empty());
    if (!asks_again && count == 0) return;
    auto recalled = Result<size_t>(0);
    if (!asks_again)
        recalled = recall_with(seq_id, asked_by(heard));
    else if (const auto asked = ask_again(seq_id, newest))
        recalled = recall_with(seq_id, *asked);
    else
        recalled = tl::unexpected(asked.error());
    note_recall(seq_id, recalled, timer.seconds());
    paces_[seq_id] = AskingPace(); // swapping them has ended it
}

// The queries of tokens, decoded once more behind the sequence, which holds afterwards what it did before.
Result<Study> ManagedContext::ask_again(llama_seq_id seq_id, std::span<const llama_token> tokens) {
    std::optional<SequenceState> before;
    if (!is_plain()) {
        KVFOLD_TRY(before, read_sequence(ctx_, seq_id));
    }
    const llama_pos end = books_.end(seq_id);
    Result<Study> asked = listen(*recalling_.tap, recalling_.map.layers, std::ssize(tokens),
                                 [&] { return decode_tokens(ctx_, tokens, end, Outputs::none, seq_id); });
    Status undone;
    if (before)
        undone = write_sequence(ctx_, seq_id, *before);
    else if (!real().llama_memory_seq_rm(memory(), seq_id, end, -1))
        undone = fail(ErrorCode::lost, "llama.cpp does not remove the newest tokens");
    if (!undone) relearn_own(seq_id);
    KVFOLD_CHECK(undone);
    return asked;
}

// Where a recall costs no more than a few tokens.
bool ManagedContext::is_quick_to_recall() const {
    return books_.streams() == 1 && !llama_model_is_hybrid(model_);
}

// The sequences whose model has said enough since it last asked, and the entries that ask now.
ManagedContext::Speaking ManagedContext::asking(std::span<const BatchEntry> entries) {
    if (recalling_.cells == 0 || !is_quick_to_recall() || embeds_ || !causal_ ||
        std::ssize(entries) > kMostSpoken)
        return {};
    auto spoken = spoken_in(entries, prompts_);
    const bool has_time = asking_time_.is_left();
    std::erase_if(spoken, [&](const auto& each) KVFOLD_REQUIRES(mutex_) {
        const auto& [seq_id, places] = each;
        const llama_pos pos = entries[static_cast<size_t>(places.front())].pos;
        const bool goes_on = pos < 0 || pos >= books_.end(seq_id);
        return !paces_[seq_id].is_due(places.size()) || !has_time || !goes_on || !can_recall(seq_id, 1);
    });
    return spoken;
}

// A batch of answers alone: what prompts take is none of theirs.
void ManagedContext::note_answers(std::span<const BatchEntry> entries, double seconds) {
    const bool is_spoken = std::ranges::all_of(entries, [](const BatchEntry& entry) { return entry.output; });
    if (is_spoken && std::ssize(entries) <= kMostSpoken) asking_time_.decoded(seconds);
}

void ManagedContext::recall_behind(const Speaking& speaking, const Study& heard) {
    for (const auto& [seq_id, places] : speaking) {
        if (!can_recall(seq_id, kMostSpoken)) continue;
        const Timer timer;
        AskingPace pace = paces_[seq_id];
        const auto recalled = recall_with(seq_id, queries_of_tokens(heard, places));
        note_recall(seq_id, recalled, timer.seconds());
        asking_time_.asked(timer.seconds());
        pace.asked();
        paces_[seq_id] = pace; // swapping them has ended it
    }
}

// coming: of the batch, which must have room too.
bool ManagedContext::can_recall(llama_seq_id seq_id, size_t coming) const {
    const Books::Fold fold = books_.fold_of(seq_id);
    if (fold.empty() || place_of_recalled(seq_id) < 0) return false;
    size_t archived = 0; // cells that it may have
    for (const auto& cells : books_.history(seq_id).each(fold.end))
        archived += count_replaced(*cells);
    if (archived == 0 || (!is_quick_to_recall() && !books_.shared(seq_id).empty())) return false;
    return std::min(recalling_.cells, archived) + coming <= free_cells(seq_id) + books_.recalled(seq_id).own;
}

// -1: there is none.
llama_pos ManagedContext::place_of_recalled(llama_seq_id seq_id) const {
    const llama_pos place = kvfold::place_of_recalled(books_.fold_of(seq_id).end, llama_model_n_swa(model_));
    return place >= 0 && !books_.stands_at(seq_id, place) ? place : -1;
}

// How many cells. What is thrown while they are chosen costs nothing else.
Result<size_t> ManagedContext::recall_with(llama_seq_id seq_id, const Study& asked) {
    const llama_pos place = place_of_recalled(seq_id);
    KVFOLD_TRY(const KvSection recalled,
               without_throwing([&]() KVFOLD_REQUIRES(mutex_) { return chosen_by(asked, seq_id, place); }));
    if (!recalled.cells.empty()) {
        KVFOLD_CHECK(put_beside(seq_id, recalled, place));
    }
    return recalled.cells.size();
}

// Of what its folds replaced.
Result<KvSection> ManagedContext::chosen_by(const Study& asked, llama_seq_id seq_id, llama_pos place) const {
    const auto folds = books_.history(seq_id).each(books_.fold_of(seq_id).end); // they outlive the sources
    const std::vector<Recallable> sources = recallable(folds);
    if (sources.empty()) return KvSection();
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    RecallProblem problem{recalling_.map, sources, asked, recalling_.cells, all_threads(), *kernels};
    problem.kept = &folds.back()->kept_keys;
    return recall(problem, place);
}

// Instead of those that were recalled before. On failure it has none, or the books know what it holds.
Status ManagedContext::put_beside(llama_seq_id seq_id, const KvSection& recalled, llama_pos place) {
    if (is_quick_to_recall()) {
        KVFOLD_CHECK(drop_recalled(seq_id));
        KVFOLD_CHECK(add_cells(ctx_, seq_id, recalled, recalling_.map.version));
    } else {
        KVFOLD_TRY(const SequenceState now, read_sequence(ctx_, seq_id));
        KVFOLD_CHECK(write(seq_id, with_recalled(now, recalled, place)));
        books_.drop_recalled(seq_id);
    }
    books_.recall(seq_id, place, recalled.cells.size());
    return {};
}

Status ManagedContext::write(llama_seq_id seq_id, const SequenceState& state) {
    const Status written = write_sequence(ctx_, seq_id, state);
    if (!written && written.error().code == ErrorCode::lost) books_.remove(seq_id, -1, -1);
    return written;
}

// What else reads a sequence's cells, or moves them, takes them for all that there are.
Status ManagedContext::drop_recalled(llama_seq_id seq_id) {
    const Books::Recalled recalled = books_.recalled(seq_id);
    if (recalled.cells == 0) return {};
    if (!is_quick_to_recall()) {
        KVFOLD_TRY(const SequenceState now, read_sequence(ctx_, seq_id));
        KVFOLD_CHECK(write(seq_id, without_recalled(now, recalled.pos)));
    } else if (!real().llama_memory_seq_rm(memory(), seq_id, recalled.pos, recalled.pos + 1)) {
        return fail(ErrorCode::llama, "llama.cpp does not remove position {}", recalled.pos);
    }
    books_.drop_recalled(seq_id);
    paces_.erase(seq_id); // the next token asks
    return {};
}

void ManagedContext::drop_recalled_of(llama_seq_id seq_id) {
    for (const llama_seq_id id : seq_id >= 0 ? std::vector{seq_id} : books_.sequences()) {
        const Status dropped = drop_recalled(id);
        if (!dropped) log_warning("{}: what it recalled stays: {}", name(id), dropped.error().message);
    }
}

bool ManagedContext::drop_recalled_in(size_t stream) {
    const size_t before = books_.used(stream);
    for (const llama_seq_id seq_id : books_.sequences())
        if (books_.stream_of(seq_id) == stream) drop_recalled_of(seq_id);
    return books_.used(stream) < before;
}

} // namespace kvfold::preload
