// Before a prompt is read behind a fold it asks, and what it asks for stands beside the folded cells.
#include "preload/managed_context.h"

#include "base/timer.h"
#include "model/context.h"
#include "preload/log.h"
#include "preload/real.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <numeric>

namespace kvfold::preload {

namespace {

constexpr size_t kMostAsking = 24; // newest tokens of a prompt, which ask: each costs what reading it does

// What the batch has of prompts, by sequence: of an answer the program wants every output. Tokens that
// several sequences share ask for none of them.
std::map<llama_seq_id, std::vector<llama_token>> prompts_of(std::span<const BatchEntry> entries) {
    std::map<llama_seq_id, std::vector<llama_token>> prompts;
    for (const BatchEntry& entry : entries)
        if (!entry.output && entry.seq_ids.size() == 1) prompts[entry.seq_ids.front()];
    for (const BatchEntry& entry : entries) {
        if (entry.seq_ids.size() != 1 || entry.token == LLAMA_TOKEN_NULL) continue;
        const auto found = prompts.find(entry.seq_ids.front());
        if (found != prompts.end()) found->second.push_back(entry.token);
    }
    std::erase_if(prompts, [](const auto& prompt) { return prompt.second.empty(); });
    return prompts;
}

// Of what folds replaced, all that they did not keep as it was.
std::vector<Recallable> recallable(const std::vector<std::shared_ptr<const ReplacedCells>>& folds) {
    std::vector<Recallable> sources;
    for (const auto& fold : folds) {
        std::vector<uint32_t> cells(fold->originals.cells.size() - fold->head);
        std::iota(cells.begin(), cells.end(), static_cast<uint32_t>(fold->head));
        if (!cells.empty()) sources.push_back({fold->originals, std::move(cells)});
    }
    return sources;
}

KvSection cells_before(const KvSection& section, llama_pos end) {
    std::vector<uint32_t> before;
    for (uint32_t cell = 0; cell < section.cells.size(); ++cell)
        if (section.cells[cell].pos < end) before.push_back(cell);
    return take_cells(section, before);
}

} // namespace

// What goes wrong here costs the prompt its recalled cells and nothing else.
void ManagedContext::recall_for(std::span<const BatchEntry> entries) {
    if (recalling_.cells == 0 || shift_is_due_ || embeds_ || !causal_) return;
    for (const auto& [seq_id, tokens] : prompts_of(entries)) {
        const Timer timer;
        const auto recalled = recall_for(seq_id, tokens, entries.size());
        if (!recalled) {
            log_warning("{}: nothing is recalled: {}", name(seq_id), recalled.error().message);
        } else if (*recalled > 0) {
            journal_.recalled(timer.seconds());
            log_debug("{}: {} cells recalled in {:.0f} ms", name(seq_id), *recalled, 1000 * timer.seconds());
        }
    }
}

// coming: tokens of the batch, which must have room too. 0: there is nothing to recall, or no room for it.
Result<size_t> ManagedContext::recall_for(llama_seq_id seq_id, std::span<const llama_token> tokens,
                                          size_t coming) {
    const Books::Fold fold = books_.fold_of(seq_id);
    const FoldTask* task = folder_.task(); // which has its cells as they are
    if (fold.empty() || (task && task->seq_id == seq_id) || !books_.shared(seq_id).empty()) return 0;
    const auto folds = books_.history(seq_id).each(fold.end); // ours, whatever the archive does
    const std::vector<Recallable> sources = recallable(folds);
    if (sources.empty()) return 0;
    auto folded = books_.history(seq_id).without_recalled();
    const size_t recalled_now = folded ? fold.cells - folded->cells.size() : 0;
    const std::span<const llama_token> asking = tokens.last(std::min(tokens.size(), kMostAsking));
    const size_t more = std::max(recalling_.cells + coming, recalled_now + asking.size());
    if (books_.cells(seq_id) - recalled_now + more > room_for(seq_id)) return 0;

    KVFOLD_TRY(const SequenceState before, read_sequence(ctx_, seq_id));
    if (!folded) folded = std::make_shared<KvSection>(cells_before(before.sections.front(), fold.end));
    KVFOLD_TRY(const Study asked, ask(seq_id, asking, before));
    KVFOLD_TRY(const Kernels* kernels, chosen_kernels());
    const RecallProblem problem{recalling_.map, sources, asked, recalling_.cells, all_threads(), *kernels};
    KVFOLD_TRY(const KvSection recalled, recall(problem, fold.end - 1));
    KVFOLD_CHECK(set_recalled(seq_id, before, std::move(folded), recalled));
    return recalled.cells.size();
}

// The queries of tokens behind the sequence, which holds afterwards what it did before.
Result<Study> ManagedContext::ask(llama_seq_id seq_id, std::span<const llama_token> tokens,
                                  const SequenceState& before) {
    QueryTap tap(recalling_.map.layers, std::ssize(tokens));
    const llama_pos end = books_.end(seq_id);
    const Status asked = [&] {
        const Listening listening(*recalling_.tap, tap);
        return decode_tokens(ctx_, tokens, end, Outputs::none, seq_id);
    }();
    const bool is_as_before = is_plain() && real().llama_memory_seq_rm(memory(), seq_id, end, -1);
    if (!is_as_before) {
        const Status written = write_sequence(ctx_, seq_id, before);
        if (!written) relearn(seq_id, books_.tokens(seq_id));
        KVFOLD_CHECK(written);
    }
    KVFOLD_CHECK(asked);
    tap.rethrow();
    return tap.take();
}

// folded: what it holds of the fold without recalled cells. On failure it holds what it did, or the books
// know that it lost it.
Status ManagedContext::set_recalled(llama_seq_id seq_id, const SequenceState& now,
                                    std::shared_ptr<const KvSection> folded, const KvSection& recalled) {
    const llama_pos end = books_.fold_of(seq_id).end;
    const Status written = write_sequence(ctx_, seq_id, with_recalled(now, *folded, recalled, end));
    if (!written) {
        if (written.error().code == ErrorCode::lost) books_.remove(seq_id, -1, -1);
        return written;
    }
    books_.fold(seq_id, end - 1, /*untouched=*/0, folded->cells.size() + recalled.cells.size());
    FoldHistory history = books_.history(seq_id);
    history.set_without_recalled(recalled.cells.empty() ? nullptr : std::move(folded));
    books_.set_history(seq_id, std::move(history));
    return {};
}

// Recalled cells leave the sequences of a stream. False: there are none.
bool ManagedContext::drop_recalled(size_t stream) {
    bool dropped = false;
    for (const llama_seq_id seq_id : books_.sequences()) {
        const auto folded = books_.history(seq_id).without_recalled();
        if (!folded || books_.stream_of(seq_id) != stream || !books_.shared(seq_id).empty()) continue;
        const auto now = read_sequence(ctx_, seq_id);
        dropped |= now && set_recalled(seq_id, *now, folded, take_cells(*folded, {}));
    }
    return dropped;
}

} // namespace kvfold::preload
