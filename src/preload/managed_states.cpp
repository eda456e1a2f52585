// States and slot files of the program: saved whole, restored with the tokens that belong to them, and folded
// in where they are larger than the room that there is.
#include "preload/managed_context.h"

#include "base/format.h"
#include "base/no_throw.h"
#include "engine/compact.h"
#include "engine/kept_folds.h"
#include "engine/layers.h"
#include "preload/log.h"
#include "preload/real.h"
#include "state/folded_region.h"
#include "state/live_sequence.h"
#include "state/slot_file.h"

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <unistd.h>

namespace kvfold::preload {

namespace {

constexpr llama_state_seq_flags kWholeState = LLAMA_STATE_SEQ_FLAGS_NONE;
constexpr llama_seq_id kAllSequences = -1;

// Where the file really is, and a name beside it that is no longer than its own.
std::filesystem::path target_of(const char* path) {
    std::error_code error;
    const std::filesystem::path target = std::filesystem::weakly_canonical(path, error);
    return error ? std::filesystem::path(path) : target;
}

std::filesystem::path part_of(const std::filesystem::path& target) {
    static std::atomic<unsigned> count = 0; // contexts may save at once
    return target.parent_path() / kvfold::format(".kvfold-{}-{}.part", ::getpid(), ++count);
}

// A whole state of a sequence tells of the fold that ends at `end`; 0: it does already.
void tell_fold(std::span<uint8_t> blob, llama_pos end) {
    if (end == 0) return;
    auto state = decode_blob(blob);
    if (!state) return;
    gather_before(state->sections.front(), end);
    const std::vector<uint8_t> bytes = encode_sequence(*state);
    std::ranges::copy(bytes, blob.last(bytes.size()).begin());
}

Status tell_fold(const std::filesystem::path& file, llama_pos end) {
    if (end == 0) return {};
    KVFOLD_TRY(SlotFile slot, read_slot_file(file));
    gather_before(slot.state.sections.front(), end);
    return write_slot_file(file, slot);
}

// Whose cells share a position and leave a gap behind it, as those of a fold do.
bool has_images(const llama_model* model) {
    const llama_rope_type type = llama_model_rope_type(model);
    return type == LLAMA_ROPE_TYPE_MROPE || type == LLAMA_ROPE_TYPE_IMROPE;
}

} // namespace

bool ManagedContext::is_of_another_model(const SequenceState& state) const {
    const KvSection& section = state.sections.front();
    return !section.cells.empty() && !differs_in_layers(recalling_.map, section).empty();
}

// What the sequence holds now, from llama.cpp itself. tokens: one a position; any other number says nothing.
// may_hide_fold: behind the beginning of it. Then a gap tells of the fold, but not where images leave gaps
// too.
void ManagedContext::relearn(llama_seq_id seq_id, std::vector<llama_token> tokens, bool may_hide_fold) {
    drop_recalled_of(seq_id);
    const auto state = read_sequence(ctx_, seq_id);
    if (!state) {
        books_.remove(seq_id, -1, -1);
        return;
    }
    const KvSection& section = state->sections.front();
    llama_pos fold_end = folded_region(section).end;
    if (may_hide_fold && is_plain() && !has_images(model_) && first_plain_position(section) > 1)
        fold_end = first_plain_position(section);
    learn(seq_id, section, fold_end, std::move(tokens));
}

void ManagedContext::learn(llama_seq_id seq_id, const KvSection& section, llama_pos fold_end,
                           std::vector<llama_token> tokens) {
    const std::vector<int32_t> positions = sorted_positions(section);
    const size_t count = positions.empty() ? 0 : static_cast<size_t>(positions.back()) + 1;
    if (tokens.size() != count) tokens.clear();
    books_.learn(seq_id, positions, fold_end, std::move(tokens));
}

// What the books say of it holds, but it may have cells of its own now, and other ones recalled.
void ManagedContext::relearn_own(llama_seq_id seq_id) {
    const llama_pos fold_end = books_.fold_of(seq_id).end;
    KnownState known{books_.tokens(seq_id), books_.history(seq_id)};
    drop_recalled_of(seq_id);
    const auto state = read_sequence(ctx_, seq_id);
    if (!state) return books_.remove(seq_id, -1, -1);
    learn(seq_id, state->sections.front(), fold_end, std::move(known.tokens));
    books_.set_history(seq_id, std::move(known.history));
}

void ManagedContext::relearn_all() {
    ends_.clear();
    drop_recalled_of(kAllSequences);
    books_.clear();
    const auto sequences = static_cast<llama_seq_id>(llama_n_seq_max(ctx_));
    for (llama_seq_id seq_id = 0; seq_id < sequences; ++seq_id)
        relearn(seq_id, {}, /*may_hide_fold=*/true);
}

// A state tells of its fold by its first position. Where the fold stands behind a beginning that the sequence
// shares with others, the cells do not: this is the fold's end, and 0 elsewhere.
llama_pos ManagedContext::hidden_fold(llama_seq_id seq_id) const {
    if (!is_plain()) return 0; // there no beginning is left alone
    const llama_pos end = books_.fold_of(seq_id).end;
    const bool is_first = end > 0 && real().llama_memory_seq_pos_min(memory(), seq_id) == end - 1;
    return is_first ? 0 : end;
}

// Whole states are of what was read and folded; what it recalls the next prompt chooses anew.
size_t ManagedContext::state_size(llama_seq_id seq_id, llama_state_seq_flags flags,
                                  Original<size_t> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        promise(seq_id);
        if (flags == kWholeState) drop_recalled_of(seq_id);
    });
    return original();
}

size_t ManagedContext::get_state(uint8_t* dst, llama_seq_id seq_id, llama_state_seq_flags flags,
                                 Original<size_t> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (flags == kWholeState) drop_recalled_of(seq_id);
    });
    const size_t written = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(seq_id);
        const bool is_whole = seq_id >= 0 && flags == kWholeState && written > 0;
        if (!is_whole) return;
        tell_fold(std::span(dst, written), hidden_fold(seq_id));
        saved_.remember({dst, written}, {books_.tokens(seq_id), books_.history(seq_id)});
    });
    return written;
}

ManagedContext::Held ManagedContext::held_by(llama_seq_id seq_id) {
    if (!books_.holds(seq_id)) return {};
    drop_recalled_of(seq_id);
    std::vector<uint8_t> blob(real().llama_state_seq_get_size(ctx_, seq_id));
    blob.resize(real().llama_state_seq_get_data(ctx_, blob.data(), blob.size(), seq_id));
    tell_fold(blob, hidden_fold(seq_id));
    return {std::move(blob), {books_.tokens(seq_id), books_.history(seq_id)}};
}

// A restore that failed has emptied the sequence: it holds again what it held.
void ManagedContext::end_restore(llama_seq_id seq_id, bool is_restored, KnownState now, Held before) {
    if (!is_restored && !before.blob.empty()) {
        if (!real().llama_state_seq_set_data(ctx_, before.blob.data(), before.blob.size(), seq_id))
            log_error("{}: what it held cannot be put back, and has to be read again", name(seq_id));
        now = std::move(before.known);
    }
    books_.drop_recalled(seq_id); // a restore has replaced them
    ends_.erase(seq_id);
    relearn(seq_id, std::move(now.tokens));
    books_.set_history(seq_id, std::move(now.history));
}

size_t ManagedContext::room_for(llama_seq_id seq_id) const {
    const size_t stream = books_.stream_of(seq_id);
    size_t own = books_.recalled(seq_id).own; // cells that go when the sequence does
    for (const Foldable& part : books_.foldable_of(seq_id))
        if (!part.is_shared) own += part.cells;
    return n_ctx_seq_ - std::min<size_t>(n_ctx_seq_, books_.used(stream) - own);
}

// Others are folded until so many cells are free, or nothing more can be.
void ManagedContext::make_room_for(llama_seq_id seq_id, size_t cells) {
    while (policy_.automatic && room_for(seq_id) < cells && make_room(books_.stream_of(seq_id), seq_id)) {
    }
}

// Half of the room stays for what is new, as at any other fold.
Result<ManagedContext::KnownSequence>
ManagedContext::folded_to_fit(const SequenceState& state, const KnownState& known, size_t cells) const {
    Books books;
    const KvSection& section = state.sections.front();
    const std::vector<int32_t> positions = sorted_positions(section);
    const bool are_known = std::ranges::find(known.tokens, LLAMA_TOKEN_NULL) == known.tokens.end();
    const std::vector<llama_token> tokens = are_known ? known.tokens : std::vector<llama_token>();
    books.learn(0, positions, folded_region(positions).end, tokens);
    const Foldable whole = books.foldable_of(0).front();
    const double ratio =
        std::max(policy_.ratio, 2.0 * static_cast<double>(whole.cells) / static_cast<double>(cells));
    const auto fold = [&](const Method* method) KVFOLD_REQUIRES(mutex_) {
        CompactRequest request =
            request_for(method, !tokens.empty(), whole_budget(whole, policy_, ratio), all_threads());
        request.tokens = tokens;
        request.is_awaited = true;
        request.most_cells = folded_at_once(n_ctx_seq_, request.is_awaited);
        request.progress = [&](Stage, float) { return method == kQuickest || !in_a_hurry_; };
        return compact_state(model_, state, request, known.history);
    };
    Result<CompactState> folded = fold(policy_.method);
    if (!folded && in_a_hurry_) folded = fold(kQuickest);
    KVFOLD_TRY(CompactState compact, std::move(folded));
    KnownSequence now{std::move(compact.state), known, {}};
    const auto replaced = replaced_between(section, now.state.sections.front(), recalled_by(),
                                           kept_keys(compact.report.heads, compact.report.region_positions));
    if (replaced && replaced->begin() < replaced->end()) { // else folded cells alone were folded
        now.replaced = replaced;
        now.known.history.add(replaced);
    }
    log_info("a state of {} cells is folded to {}: {} are free", whole.cells, compact.report.cells_after,
             cells);
    return now;
}

// A state that has no room, however many others are folded, is folded, and the sequence holds that. Nothing:
// it has room, or llama.cpp will say what is wrong with it.
std::optional<ManagedContext::KnownSequence>
ManagedContext::fold_in(llama_seq_id seq_id, const SequenceState& state, const KnownState& known) {
    const size_t cells = state.sections.front().cells.size();
    make_room_for(seq_id, cells);
    if (!policy_.automatic || room_for(seq_id) >= cells) return std::nullopt;
    Result<KnownSequence> folded = without_throwing(
        [&]() KVFOLD_REQUIRES(mutex_) { return folded_to_fit(state, known, room_for(seq_id)); });
    const Status written =
        folded ? write_sequence(ctx_, seq_id, folded->state) : tl::unexpected(folded.error());
    if (!written) {
        log_warning("{}: a state of {} cells does not fit and cannot be folded: {}", name(seq_id), cells,
                    written.error().message);
        return std::nullopt;
    }
    return *std::move(folded);
}

size_t ManagedContext::set_state(std::span<const uint8_t> bytes, llama_seq_id seq_id,
                                 llama_state_seq_flags flags, Original<size_t> original) {
    const Calls::Running running(calls_);
    const MutexLock lock(mutex_);
    const Inside inside;
    if (flags != kWholeState) { // a window or a recurrent state: the cells stay
        // Recalled ones go first: a window that comes back reaches to where they stand.
        note([&]() KVFOLD_REQUIRES(mutex_) { drop_recalled_of(seq_id); });
        return original();
    }
    Held before;
    KnownState known;
    std::optional<KnownSequence> folded;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(seq_id);
        before = held_by(seq_id);
        known = saved_.find(bytes);
        touch(seq_id, 0);
        // A state of fewer bytes than its cells would take has room: it need not be read for their number.
        if (!policy_.automatic || bytes.size() <= room_for(seq_id) * sizes_.cell_bytes) return;
        const auto state = decode_blob(bytes);
        if (!state || is_of_another_model(*state)) return; // llama.cpp will say what is wrong with it
        folded = fold_in(seq_id, *state, known);
    });
    const size_t read = folded ? bytes.size() : original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (folded) archive_.admit(folded->replaced);
        end_restore(seq_id, read > 0, std::move(folded ? folded->known : known), std::move(before));
    });
    return read;
}

size_t ManagedContext::save_file(const char* path, llama_seq_id seq_id, std::span<const llama_token> words,
                                 Original<size_t> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    size_t written = 0;
    Status told;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        drop_recalled_of(seq_id);
        const std::filesystem::path target = target_of(path), fresh = part_of(target);
        written = real().llama_state_seq_save_file(ctx_, fresh.c_str(), seq_id, words.data(), words.size());
        std::error_code error;
        if (written > 0) told = tell_fold(fresh, hidden_fold(seq_id));
        if (!told) written = 0;
        if (written > 0) std::filesystem::rename(fresh, target, error);
        if (error) written = 0;
        if (written == 0) std::filesystem::remove(fresh, error);
        if (written > 0) save_archive(seq_id, target);
    });
    if (told) return written > 0 ? written : original();
    log_error("{}", told.error().message); // as llama.cpp writes it the file would hide its fold
    return 0;
}

size_t ManagedContext::load_file(const char* path, llama_seq_id seq_id, std::span<llama_token> words,
                                 size_t* count, Original<size_t> original) {
    const Calls::Running running(calls_);
    const MutexLock lock(mutex_);
    const Inside inside;
    if (words.data() == nullptr) return original(); // only asks how many there are
    Held before;
    KnownState known;
    std::vector<std::shared_ptr<ArchivedFold>> archived;
    std::optional<KnownSequence> folded;
    size_t read = 0; // bytes
    bool is_damaged = false;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(seq_id);
        Result<SlotFile> slot = read_slot_file(path);
        is_damaged = !slot && slot.error().code == ErrorCode::corrupt;
        if (is_damaged) return log_error("{}; the slot keeps what it holds", slot.error().message);
        before = held_by(seq_id);
        touch(seq_id, 0);
        if (!slot || is_of_another_model(slot->state)) return; // llama.cpp will say what is wrong with it
        known.tokens = slot->text.tokens;
        archived = load_archive(target_of(path), slot->state.sections.front());
        for (const auto& fold : archived)
            known.history.add(fold);
        const std::vector<int32_t> written = pack_tokens(slot->text);
        if (written.size() > words.size()) return;
        folded = fold_in(seq_id, slot->state, known);
        if (!folded) return;
        std::ranges::copy(written, words.begin());
        *count = written.size();
        read = static_cast<size_t>(std::filesystem::file_size(path));
    });
    if (is_damaged) return 0;
    if (!folded) read = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (read > 0) {
            for (const auto& fold : archived)
                archive_.admit(fold);
        }
        if (folded) archive_.admit(folded->replaced);
        end_restore(seq_id, read > 0, std::move(folded ? folded->known : known), std::move(before));
    });
    return read;
}

bool ManagedContext::save_all(Original<bool> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) { drop_recalled_of(kAllSequences); });
    return original();
}

size_t ManagedContext::set_all(Original<size_t> original,
                               const std::function<std::span<const llama_token>()>& words) {
    const MutexLock lock(mutex_);
    const Inside inside;
    note([&]() KVFOLD_REQUIRES(mutex_) {
        keep_promise(kAllSequences);
        drop_recalled_of(kAllSequences);
        touch_all();
    });
    const size_t read = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        relearn_all();
        const auto sequences = books_.sequences();
        // Programs that save all keep the tokens of the one sequence that they have.
        if (read == 0 || sequences.size() != 1) return;
        // The newest of them may wait for its decode.
        const auto end = static_cast<size_t>(books_.end(sequences.front()));
        const std::span<const llama_token> written = words();
        const auto decoded = written.first(std::min(written.size(), end));
        relearn(sequences.front(), {decoded.begin(), decoded.end()}, /*may_hide_fold=*/true);
    });
    return read;
}

} // namespace kvfold::preload
