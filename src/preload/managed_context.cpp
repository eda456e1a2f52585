#include "preload/managed_context.h"

#include "preload/log.h"
#include "preload/real.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"

#include <algorithm>

namespace kvfold::preload {

namespace {

constexpr llama_seq_id kAll = -1;

} // namespace

ManagedContext::ManagedContext(llama_context* ctx, llama_model* model, const llama_context_params& params,
                               const ContextSizes& sizes, Recalling recalling, const Policy& policy)
    : ctx_(ctx), model_(model), params_(params), sizes_(sizes), recalling_(std::move(recalling)),
      n_ctx_(real().llama_n_ctx(ctx)), n_ctx_seq_(real().llama_n_ctx_seq(ctx)),
      n_batch_(real().llama_n_batch(ctx)),
      told_n_batch_(std::max(n_batch_, std::min(sizes.asked_batch, n_ctx_ * sizes.virtual_factor))),
      window_(params.swa_full ? 0 : std::max(0, llama_model_n_swa(model))),
      kept_window_(params.swa_full && !llama_model_is_hybrid(model) ? std::max(0, llama_model_n_swa(model))
                                                                    : 0),
      books_(params.kv_unified ? 1 : std::max(1u, params.n_seq_max)), archive_(sizes.archive_bytes),
      policy_(policy), causal_(params.attention_type != LLAMA_ATTENTION_TYPE_NON_CAUSAL),
      embeds_(params.embeddings),
      folder_(model, [this](const FoldTask& task, Result<CompactState> compact, const std::stop_token& stop) {
          end_fold(task, std::move(compact), stop);
      }) {
    for (size_t i = 0; params.samplers && i < params.n_samplers; ++i)
        sampled_.insert(params.samplers[i].seq_id);
}

void ManagedContext::close() {
    {
        const MutexLock lock(mutex_);
        closed_ = true;
        fold_is_void_ = true;
        folder_.cancel();
    }
    changed_.notify_all();
    folder_.join();
}

// A program that asked for the size of a state takes the bytes next, and they must be that many.
void ManagedContext::promise(llama_seq_id seq_id) { promised_.insert(seq_id); }

void ManagedContext::keep_promise(llama_seq_id seq_id) {
    if (seq_id == kAll)
        promised_.clear();
    else
        promised_.erase(seq_id);
    changed_.notify_all();
}

void ManagedContext::touch(llama_seq_id seq_id, llama_pos p0) {
    refused_.erase(seq_id);
    failures_.erase(seq_id);
    const FoldTask* task = folder_.task();
    if (!task || p0 > task->last) return;
    // Cells of the fold are also those of others that share them.
    if (task->seq_id != seq_id && books_.shared(task->seq_id).empty()) return;
    fold_is_void_ = true;
    folder_.cancel();
}

void ManagedContext::touch_all() {
    for (const llama_seq_id seq_id : books_.sequences())
        touch(seq_id, 0);
}

void ManagedContext::clear(Original<void> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) { touch_all(); });
    original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(kAll);
        books_.clear();
        refused_.clear();
        paces_.clear();
        ends_.clear();
        shift_is_due_ = false;
    });
}

bool ManagedContext::remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1, Original<bool> original) {
    const Calls::Running running(calls_);
    const MutexLock lock(mutex_);
    const Inside inside;
    std::vector<llama_seq_id> concerned;
    llama_seq_id torn = -1;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(seq_id);
        concerned = seq_id >= 0 ? std::vector{seq_id} : books_.sequences();
        const auto tears = [&](llama_seq_id id)
                               KVFOLD_REQUIRES(mutex_) { return books_.tears_fold(id, p0, p1); };
        const auto found = std::ranges::find_if(concerned, tears);
        if (found != concerned.end()) torn = *found;
    });
    if (torn >= 0) {
        const bool to_the_end = p1 < 0 || p1 >= books_.end(torn);
        if (to_the_end && seq_id >= 0) {
            const std::optional<bool> removed = take_back(torn, p0, original);
            return removed ? *removed : read_again(torn, p0, original);
        }
        p0 = std::max(p0, 0);
        if (seq_id >= 0 && drop_folded(torn, p0, p1)) {
            const bool removed = original(); // what stands there beside the fold
            note([&]() KVFOLD_REQUIRES(mutex_) {
                std::vector<llama_token> tokens = books_.tokens(torn);
                std::fill(tokens.begin() + p0, tokens.begin() + p1, LLAMA_TOKEN_NULL);
                relearn(torn, std::move(tokens));
            });
            return removed;
        }
        log_warning("{}: positions {} to {} are folded together and cannot be removed one by one", name(torn),
                    p0, p1);
        return false;
    }
    note([&]() KVFOLD_REQUIRES(mutex_) {
        for (const llama_seq_id id : concerned)
            touch(id, std::max(p0, 0));
    });
    const bool ends_there = seq_id >= 0 && p0 > 0 && p0 < books_.end(seq_id) && p1 < 0;
    if (ends_there && !has_window_for(seq_id, p0)) return read_again(seq_id, p0, original);
    if (!original()) return false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        for (const llama_seq_id id : concerned)
            if (p1 < 0 || p1 >= books_.end(id)) edits_.cut(id, std::max(p0, 0), books_.tokens(id));
        books_.remove(seq_id, p0, p1);
    });
    return true;
}

// Of the cells of a fold, those that stand for positions [p0, p1) amid the sequence go: the head for itself,
// the others evenly for what is behind it. Programs do that when a context is full. The fold ends before p0
// then, if its end went. False: they cannot be told apart, or others own them too.
bool ManagedContext::drop_folded(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    bool dropped = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        const std::vector<Foldable> parts = books_.foldable_of(seq_id);
        if (llama_model_is_hybrid(model_) || shift_is_due_ || parts.size() != 1 || parts.front().is_shared)
            return;
        drop_recalled_of(seq_id);
        Result<SequenceState> state = read_sequence(ctx_, seq_id);
        if (!state) return;
        touch(seq_id, 0);
        KvSection& section = state->sections.front();
        gather_before(section, hidden_fold(seq_id));
        const FoldedRegion fold = folded_region(section);
        const auto head = std::min<llama_pos>(policy_.keep_first, static_cast<llama_pos>(fold.cells));
        const auto others = static_cast<int64_t>(fold.cells) - head;
        std::vector<uint32_t> kept;
        int64_t seen = 0; // cells of the fold
        for (uint32_t i = 0; i < section.cells.size(); ++i) {
            int64_t place = -1; // what the cell stands for; plain cells are the original's business
            if (section.cells[i].pos < fold.end) {
                place = seen < head ? seen : head + (seen - head + 1) * (fold.end - head) / others - 1;
                ++seen;
            }
            if (place < p0 || place >= p1) kept.push_back(i);
        }
        section = take_cells(section, kept);
        for (CellMeta& cell : section.cells)
            if (cell.pos < fold.end && fold.end <= p1) cell.pos = p0 - 1;
        const Status written = write(seq_id, *state);
        if (!written) log_warning("{}: {}", name(seq_id), written.error().message);
        dropped = written.has_value();
    });
    return dropped;
}

// The tokens before `end` again, folded on the way when they outgrow the cells. Nothing is removed before it
// is sure that they are known and fit.
bool ManagedContext::read_again(llama_seq_id seq_id, llama_pos end, Original<bool> original) {
    const std::vector<llama_token>& all = books_.tokens(seq_id);
    std::vector<llama_token> tokens = all;
    tokens.resize(static_cast<size_t>(end), LLAMA_TOKEN_NULL); // longer than it is where a restore lost it
    if (std::ranges::find(tokens, LLAMA_TOKEN_NULL) != tokens.end()) {
        log_warning("{}: cut at {} inside its folded part, and its tokens are not known", name(seq_id), end);
        return false;
    }
    if (!policy_.automatic && tokens.size() > room_for(seq_id)) {
        log_warning("{}: cut at {} inside its folded part; {} tokens do not fit in {} cells unfolded",
                    name(seq_id), end, tokens.size(), room_for(seq_id));
        return false;
    }
    log_info("{}: cut at {}, and not all before it is kept; reading {} tokens again", name(seq_id), end,
             tokens.size());
    journal_.read_again();
    touch(seq_id, 0);
    if (!original()) return false; // the rest goes as the program asked for
    edits_.cut(seq_id, end, all);
    real().llama_memory_seq_rm(memory(), seq_id, -1, -1);
    books_.remove(seq_id, -1, -1);
    std::vector<llama_seq_id*> ids;
    llama_batch batch = llama_batch_get_one(const_cast<llama_token*>(tokens.data()), end);
    std::vector<llama_pos> positions(tokens.size());
    std::vector<int32_t> counts(tokens.size(), 1);
    std::vector<int8_t> outputs(tokens.size(), 0);
    llama_seq_id owner = seq_id;
    ids.assign(tokens.size(), &owner);
    for (size_t i = 0; i < tokens.size(); ++i)
        positions[i] = static_cast<llama_pos>(i);
    batch.pos = positions.data();
    batch.n_seq_id = counts.data();
    batch.seq_id = ids.data();
    batch.logits = outputs.data();
    PlainBatch again(ctx_, batch, [&] { return real().llama_decode(ctx_, batch); });
    if (decode_as_fits(again, /*is_read=*/false) == 0) return true;
    real().llama_memory_seq_rm(memory(), seq_id, -1, -1);
    books_.remove(seq_id, -1, -1);
    return false;
}

void ManagedContext::copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1,
                          Original<void> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(to);
        touch(to, 0);
        touch(from, 0); // a fold of it was planned with other owners
        drop_recalled_of(to);
        // Of shared cells they could not be taken out, and without the fold they mean nothing.
        const bool is_whole = p0 <= 0 && p1 < 0;
        if (!is_whole || !is_quick_to_recall()) drop_recalled_of(from);
    });
    original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        books_.copy(from, to, p0, p1);
        ends_[to] = books_.end(to);
        if (books_.stream_of(from) != books_.stream_of(to)) shift_is_due_ = true;
    });
}

void ManagedContext::keep(llama_seq_id seq_id, Original<void> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(kAll);
        for (const llama_seq_id id : books_.sequences())
            if (id != seq_id) touch(id, 0);
    });
    original();
    note([&]() KVFOLD_REQUIRES(mutex_) { books_.keep(seq_id); });
}

void ManagedContext::add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta,
                         Original<void> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(kAll);
        drop_recalled_of(kAll);
        touch_all(); // cells of others may move along
    });
    original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        books_.add(seq_id, p0, p1, delta);
        shift_is_due_ = true;
    });
}

void ManagedContext::divide(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int divisor,
                            Original<void> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(kAll);
        drop_recalled_of(kAll);
        touch_all();
    });
    original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        books_.divide(seq_id, p0, p1, divisor);
        shift_is_due_ = true;
    });
}

llama_pos ManagedContext::pos_min(llama_seq_id seq_id, Original<llama_pos> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    llama_pos smallest = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (kept_window_ > 0 && smallest > 0)
            smallest += kept_window_ - 1; // what is cut there has its window
        const Books::Fold fold = books_.fold_of(seq_id);
        if (smallest < 0 || fold.empty()) return;
        const llama_pos before = first_cut(seq_id) - 1 - window_;
        // Of windows and recurrent states llama.cpp tells the truth: those are as they were.
        smallest = std::max(is_plain() ? 0 : smallest, before);
    });
    return smallest;
}

// A state has no more of a window than the model looks back on, and so has a sequence that was swapped. A
// program that keeps windows whole takes every cell behind pos_min for one that it may go on from.
bool ManagedContext::has_window_for(llama_seq_id seq_id, llama_pos end) const {
    if (kept_window_ == 0) return true;
    return real().llama_memory_seq_pos_min(memory(), seq_id) <= std::max(0, end - kept_window_ + 1);
}

std::vector<llama_token> ManagedContext::tokens(llama_seq_id seq_id) {
    const MutexLock lock(mutex_);
    return books_.tokens(seq_id);
}

llama_pos ManagedContext::first_cut(llama_seq_id seq_id, std::span<const llama_token> tokens) {
    const MutexLock lock(mutex_);
    const llama_pos end = books_.fold_of(seq_id).end;
    const std::vector<llama_token>& own = books_.tokens(seq_id);
    for (size_t pos = 0; pos < std::min({static_cast<size_t>(end), own.size(), tokens.size()}); ++pos) {
        const bool are_known = own[pos] != LLAMA_TOKEN_NULL && tokens[pos] != LLAMA_TOKEN_NULL;
        if (are_known && own[pos] != tokens[pos]) return 0;
    }
    return first_cut(seq_id);
}

std::string ManagedContext::name(llama_seq_id seq_id) const {
    return sizes_.number == 1 ? kvfold::format("sequence {}", seq_id)
                              : kvfold::format("sequence {} of context {}", seq_id, sizes_.number);
}

Policy ManagedContext::policy() {
    const MutexLock lock(mutex_);
    return policy_;
}

Status ManagedContext::set_policy(const Policy& policy) {
    KVFOLD_CHECK(check_room(policy, n_ctx_seq_));
    const MutexLock lock(mutex_);
    policy_ = policy;
    refused_.clear();
    failures_.clear();
    return {};
}

Json ManagedContext::describe() const {
    return {{"cells", n_ctx_},
            {"virtual_cells", uint64_t{n_ctx_} * sizes_.virtual_factor},
            {"cell_bytes", sizes_.cell_bytes},
            {"n_seq_max", params_.n_seq_max},
            {"unified", params_.kv_unified}};
}

Json ManagedContext::state() {
    const MutexLock lock(mutex_);
    Json sequences = Json::array();
    std::vector<size_t> used; // of each stream
    for (size_t stream = 0; stream < books_.streams(); ++stream)
        used.push_back(books_.used(stream));
    for (const llama_seq_id seq_id : books_.sequences()) {
        const Books::Fold fold = books_.fold_of(seq_id);
        const size_t cells = books_.cells(seq_id);
        const size_t pinned =
            std::min<size_t>(static_cast<size_t>(policy_.keep_first), fold.empty() ? cells : fold.cells);
        const size_t recalled = books_.recalled(seq_id).cells;
        const size_t folded = fold.empty() ? 0 : fold.cells - pinned;
        sequences.push_back({{"id", seq_id},
                             {"tokens", books_.end(seq_id)},
                             {"cells", cells},
                             {"pinned", pinned},
                             {"folded_cells", folded - std::min(folded, recalled)},
                             {"recalled_cells", std::min(folded, recalled)},
                             {"folded_tokens", std::max(0, fold.end - static_cast<llama_pos>(pinned))},
                             {"live_cells", cells - folded - pinned},
                             {"tokens_known", books_.knows_all_tokens(seq_id)},
                             {"folding", folder_.task() && folder_.task()->seq_id == seq_id}});
    }
    Json state = journal_.state(books_.used());
    state.update({{"sequences", sequences}, {"used_cells", used}});
    state["totals"].update({{"archive_bytes", archive_.bytes()}, {"archive_budget", archive_.budget()}});
    return state;
}

Journal ManagedContext::journal() {
    const MutexLock lock(mutex_);
    return journal_;
}

void ManagedContext::go_on(Journal past) {
    const MutexLock lock(mutex_);
    journal_ = std::move(past);
}

} // namespace kvfold::preload
