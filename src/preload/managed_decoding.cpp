// A decode: room is made for its batch, or it goes in parts, and what was read is noted.
#include "preload/managed_context.h"

#include "base/timer.h"
#include "preload/log.h"
#include "preload/real.h"
#include "study/listen.h"

#include <algorithm>
#include <utility>

namespace kvfold::preload {

namespace {

constexpr int32_t kNoRoom = 1, kComputeError = -2; // of llama_decode
constexpr size_t kLeastBatch = 32;

} // namespace

int32_t ManagedContext::decode(ProgramBatch& batch) {
    const Calls::Running running(calls_);
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) { keep_promise(-1); });
    return decode_as_fits(batch, /*is_read=*/true);
}

int32_t ManagedContext::decode_as_fits(ProgramBatch& batch, bool is_read) {
    bool in_parts = false;
    std::vector<Asking> prompts;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        const std::vector<BatchEntry>& entries = batch.entries();
        outputs_.begin(entries);
        note_prompts(entries);
        if (!can_be_parted(batch, is_read)) return;
        const size_t count = entries.size();
        size_t full_stream = 0;
        const bool fits = count <= n_batch_ && fitting(entries, full_stream) == count;
        const bool can_be_made_to_fit = count <= std::min<size_t>(n_batch_, most_at_once());
        const bool may_wait = policy_.automatic || count > n_batch_;
        if (fits || may_wait) prompts = prompts_that_ask(entries);
        if (prompts.empty() && (fits || can_be_made_to_fit || !may_wait)) return;
        outputs_.reserve(vocabulary());
        in_parts = true;
    });
    return in_parts ? decode_in_parts(batch, prompts) : decode_whole(batch);
}

// Images are one piece. Logits of earlier parts are kept; other outputs llama.cpp has of its newest batch
// alone.
bool ManagedContext::can_be_parted(const ProgramBatch& batch, bool is_read) const {
    const bool has_others = embeds_ || gives_hidden_states_ || !sampled_.empty() || batch.wants_embeddings();
    return batch.is_text() && causal_ && !(is_read && has_others);
}

int32_t ManagedContext::decode_whole(ProgramBatch& batch) {
    const std::vector<BatchEntry>& entries = batch.entries();
    if (entries.size() > n_batch_ && entries.size() <= told_n_batch_) {
        log_error(
            "a batch of {} cannot be parted, and {} is the most that {} cells take at once; lower --virtual",
            entries.size(), n_batch_, n_ctx_);
        return kNoRoom;
    }
    size_t stream = 0;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        while (policy_.automatic && fitting(entries, stream) < entries.size() && make_room(stream)) {
        }
    });
    const Timer timer;
    int32_t code = decode_listening(batch);
    note([&]() KVFOLD_REQUIRES(mutex_) {
        while (code == kNoRoom && policy_.automatic && make_room(stream)) {
            code = batch.decode_again();
            if (fitting(entries, stream) == entries.size()) break; // something else than cells is missing
        }
        if (code == kNoRoom && policy_.automatic && fitting(entries, stream) < entries.size())
            log_warning("a batch of {} finds no room in {} cells, and nothing more can be folded for it",
                        entries.size(), n_ctx_seq_);
        record(entries, entries, code, timer.seconds());
    });
    return code;
}

// What the entries ask while they are decoded; of no layers where that failed.
template <class Decode> int32_t ManagedContext::heard(size_t entries, Study& asked, Decode decode) {
    std::optional<QueryTap> tap;
    std::optional<Listening> listening;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        tap.emplace(recalling_.map.layers, static_cast<Index>(entries));
        listening.emplace(*recalling_.tap, *tap);
    });
    const int32_t code = decode();
    listening.reset();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (code != 0 || !tap) return;
        tap->rethrow();
        asked = tap->take();
    });
    return code;
}

// What the model says asks for what it says next.
int32_t ManagedContext::decode_listening(ProgramBatch& batch) {
    Speaking speaking;
    note([&]() KVFOLD_REQUIRES(mutex_) { speaking = asking(batch.entries()); });
    Study asked;
    const Timer timer;
    const int32_t code = speaking.empty()
                             ? batch.decode()
                             : heard(batch.entries().size(), asked, [&] { return batch.decode(); });
    note([&]() KVFOLD_REQUIRES(mutex_) {
        note_answers(batch.entries(), timer.seconds());
        if (asked.tokens() > 0) recall_behind(speaking, asked);
    });
    return code;
}

// Each part takes the room that there is; where there is too little, cells are folded. A part ends where the
// tokens of a prompt that ask begin, and where they end.
int32_t ManagedContext::decode_in_parts(ProgramBatch& batch, std::span<const Asking> prompts) {
    const std::span<const BatchEntry> entries = batch.entries();
    const size_t most = std::min<size_t>(n_batch_, most_at_once());
    const bool may_fold = policy_.automatic || entries.size() > n_batch_;
    std::map<llama_seq_id, llama_pos> ends; // before the batch
    for (const BatchEntry& entry : entries) {
        for (const llama_seq_id seq_id : entry.seq_ids)
            ends.emplace(seq_id, books_.end(seq_id));
    }
    Study asked; // what the next prompt asked in the newest part
    for (size_t done = 0; done < entries.size();) {
        const Asking* const prompt = prompts.empty() ? nullptr : &prompts.front();
        if (prompt && done == prompt->last) {
            note([&]() KVFOLD_REQUIRES(mutex_) {
                recall_for(*prompt, std::exchange(asked, {}), entries.size() - done);
            });
            prompts = prompts.subspan(1);
            continue;
        }
        const bool asks = prompt && done >= prompt->first;
        const size_t end = !prompt ? entries.size() : asks ? prompt->last : prompt->first;
        const std::span<const BatchEntry> left =
            entries.subspan(done, std::min<size_t>(end - done, n_batch_));
        size_t stream = 0, count = fitting(left, stream);
        while (count < std::min(left.size(), most) && may_fold && make_room(stream))
            count = fitting(left, stream);
        const auto decode_it = [&] { return batch.decode_part(done, count); };
        const Timer timer;
        int32_t code = count == 0 ? kNoRoom : asks ? heard(count, asked, decode_it) : decode_it();
        if (code == kNoRoom && count > 0 && may_fold && make_room(stream)) continue;
        note([&]() KVFOLD_REQUIRES(mutex_) {
            record(entries, entries.subspan(done, count), code, timer.seconds());
        });
        const bool was_decoded = code == 0;
        if (was_decoded && !keep_outputs(entries.size(), done, count)) code = kComputeError;
        if (code != 0) {
            if (done > 0 || was_decoded) undo(ends);
            // Not kNoRoom behind a part: what stood there before may be folded now.
            return code == kNoRoom && done > 0 ? kComputeError : code;
        }
        done += count;
    }
    return 0;
}

// Of the part of a batch of `size` entries that was just decoded. False: there is no memory for them.
bool ManagedContext::keep_outputs(size_t size, size_t first, size_t count) {
    bool are_kept = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (first + count < size)
            outputs_.keep(first, count, real().llama_get_logits(ctx_));
        else
            outputs_.end(first);
        are_kept = true;
    });
    return are_kept;
}

// Earlier parts of a batch that failed leave again, as far as they were not folded meanwhile.
void ManagedContext::undo(const std::map<llama_seq_id, llama_pos>& ends) {
    note([&]() KVFOLD_REQUIRES(mutex_) {
        for (const auto& [seq_id, end] : ends) {
            if (books_.tears_fold(seq_id, end, -1)) continue;
            touch(seq_id, end);
            if (real().llama_memory_seq_rm(memory(), seq_id, end, -1)) books_.remove(seq_id, end, -1);
        }
    });
}

size_t ManagedContext::vocabulary() const {
    return static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_)));
}

size_t ManagedContext::most_at_once() const { return std::max<size_t>(kLeastBatch, n_ctx_seq_ / 4); }

size_t ManagedContext::free_cells(llama_seq_id seq_id) const {
    return n_ctx_seq_ - std::min<size_t>(n_ctx_seq_, books_.used(books_.stream_of(seq_id)));
}

// How many of the first entries have room. full_stream: where the next one has none.
size_t ManagedContext::fitting(std::span<const BatchEntry> entries, size_t& full_stream) const {
    std::map<size_t, size_t> used;
    for (size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].seq_ids.empty()) continue;
        const size_t stream = books_.stream_of(entries[i].seq_ids.front());
        if (stream >= books_.streams()) continue; // llama.cpp will say so
        const auto [found, is_new] = used.try_emplace(stream, books_.used(stream));
        if (++found->second <= n_ctx_seq_) continue;
        full_stream = stream;
        return i;
    }
    return entries.size();
}

// Whether a batch of so many entries holds about one token a sequence.
bool ManagedContext::is_generation(size_t entries) const { return entries <= books_.sequences().size(); }

// part: of the batch, which tells prompts from answers.
void ManagedContext::record(std::span<const BatchEntry> batch, std::span<const BatchEntry> part, int32_t code,
                            double seconds) {
    if (code == kNoRoom || code == -1) return; // nothing was decoded
    for (const BatchEntry& entry : part) {
        const bool is_answer =
            std::ranges::none_of(entry.seq_ids, [&](llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_) {
                return prompts_.contains(seq_id);
            });
        for (const llama_seq_id seq_id : entry.seq_ids)
            if (code == 0)
                edits_.decode(seq_id, entry.pos < 0 ? books_.end(seq_id) : entry.pos, entry.token, is_answer);
        books_.decode(entry.pos, entry.token, entry.seq_ids, is_answer);
        for (const llama_seq_id seq_id : entry.seq_ids)
            ends_[seq_id] = books_.end(seq_id);
    }
    shift_is_due_ = false;
    if (code != 0) { // those that llama.cpp came to are there
        for (const llama_seq_id seq_id : books_.sequences())
            books_.remove(seq_id, llama_memory_seq_pos_max(memory(), seq_id) + 1, -1);
        return;
    }
    size_t tokens = 0;
    for (const llama_seq_id seq_id : books_.sequences())
        tokens += static_cast<size_t>(books_.end(seq_id));
    journal_.decoded(part.size(), seconds, is_generation(batch.size()),
                     /*beside_a_fold=*/folder_.task() != nullptr, tokens, books_.used());
    if (policy_.automatic) fold_when_high(is_generation(batch.size()));
}

} // namespace kvfold::preload
