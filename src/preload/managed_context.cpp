#include "preload/managed_context.h"

#include "base/format.h"
#include "preload/log.h"
#include "preload/real.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <filesystem>
#include <unistd.h>

namespace kvfold::preload {

namespace {

constexpr llama_state_seq_flags kWholeState = LLAMA_STATE_SEQ_FLAGS_NONE;

std::vector<llama_pos> positions_of(const SequenceState& state) {
    std::vector<llama_pos> positions;
    for (const CellMeta& cell : state.sections.front().cells)
        positions.push_back(cell.pos);
    std::sort(positions.begin(), positions.end());
    return positions;
}

template <class Work> void attempt(Work work) {
    try {
        work();
    } catch (const std::exception& error) {
        log_error("internal error: {}", error.what());
    }
}

} // namespace

ManagedContext::ManagedContext(llama_context* ctx, llama_model* model, const llama_context_params& params,
                               int virtual_factor, size_t cell_bytes, const Policy& policy)
    : ctx_(ctx), model_(model), params_(params), virtual_(static_cast<uint32_t>(virtual_factor)),
      n_ctx_(real().llama_n_ctx(ctx)), n_ctx_seq_(real().llama_n_ctx_seq(ctx)), cell_bytes_(cell_bytes),
      unified_(params.kv_unified), policy_(policy) {}

void ManagedContext::close() {
    {
        const Lock lock(mutex_);
        closed_ = true;
        fold_is_void_ = true;
        worker_.request_stop();
    }
    changed_.notify_all();
    if (worker_.joinable()) worker_.join();
}

int32_t ManagedContext::decode(const std::vector<BatchEntry>& entries, const std::function<int32_t()>& call) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    size_t stream = 0;
    // Whatever goes wrong beside it: the program's own call runs once, and its answer is passed on.
    attempt([&] {
        while (policy_.automatic && !has_room(entries, stream) && make_room(lock, stream)) {
        }
    });
    const Timer timer;
    int32_t code = call();
    attempt([&] {
        while (code == 1 && policy_.automatic && make_room(lock, stream)) {
            code = call();
            if (has_room(entries, stream)) break; // something else than cells is missing
        }
        record(entries, code);
        if (code == 0) note_decode(entries.size(), timer.seconds());
        if (policy_.automatic) fold_when_high(is_generation(entries.size()));
    });
    return code;
}

void ManagedContext::note_decode(size_t entries, double seconds) {
    size_t tokens = 0, cells = 0;
    for (const auto& [seq_id, log] : logs_) {
        tokens += static_cast<size_t>(log.end());
        cells += log.cells();
    }
    journal_.decoded(entries, seconds, is_generation(entries), tokens, cells);
}

void ManagedContext::record(const std::vector<BatchEntry>& entries, int32_t code) {
    if (code == 1 || code == -1) return; // nothing was decoded
    llama_memory_t memory = llama_get_memory(ctx_);
    for (const BatchEntry& entry : entries) {
        for (const llama_seq_id seq_id : entry.seq_ids) {
            SequenceLog& log = log_of(seq_id);
            const llama_pos pos = entry.pos >= 0 ? entry.pos : log.end();
            if (code == 0 || pos <= llama_memory_seq_pos_max(memory, seq_id)) log.set(pos, entry.token);
        }
    }
}

void ManagedContext::clear(bool data) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    for (const auto& [seq_id, log] : logs_)
        touch(seq_id, 0);
    real().llama_memory_clear(llama_get_memory(ctx_), data);
    logs_.clear();
    refused_.clear();
}

std::vector<llama_seq_id> ManagedContext::sequences_of(llama_seq_id seq_id) const {
    if (seq_id >= 0) return {seq_id};
    std::vector<llama_seq_id> all;
    for (const auto& [id, log] : logs_)
        all.push_back(id);
    return all;
}

bool ManagedContext::remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    const auto concerned = sequences_of(seq_id);
    for (const llama_seq_id id : concerned) {
        const SequenceLog& log = log_of(id);
        if (!log.tears_fold(p0, p1)) continue;
        const bool to_the_end = p1 < 0 || p1 >= log.end();
        if (!to_the_end || seq_id < 0) {
            log_warning(
                "sequence {}: positions {} to {} are folded together and cannot be removed one by one", id,
                p0, p1);
            return false;
        }
        return read_again(lock, id, p0);
    }
    for (const llama_seq_id id : concerned)
        touch(id, std::max(p0, 0));
    if (!real().llama_memory_seq_rm(llama_get_memory(ctx_), seq_id, p0, p1)) return false;
    for (const llama_seq_id id : concerned) {
        log_of(id).remove(p0, p1);
        if (log_of(id).empty()) logs_.erase(id);
    }
    return true;
}

// The tokens before `end` again, folded on the way when they outgrow the cells.
bool ManagedContext::read_again(Lock& lock, llama_seq_id seq_id, llama_pos end) {
    std::vector<llama_token> tokens(log_of(seq_id).tokens().begin(), log_of(seq_id).tokens().begin() + end);
    if (std::find(tokens.begin(), tokens.end(), LLAMA_TOKEN_NULL) != tokens.end()) return false;
    log_info("sequence {}: cut at {} inside its folded part; reading {} tokens again", seq_id, end,
             tokens.size());
    journal_.read_again();
    touch(seq_id, 0);
    real().llama_memory_seq_rm(llama_get_memory(ctx_), seq_id, -1, -1);
    logs_.erase(seq_id);
    lock.unlock();
    bool whole = true;
    const size_t step = llama_n_batch(ctx_);
    for (size_t done = 0; done < tokens.size() && whole; done += step) {
        const auto count = static_cast<int32_t>(std::min(step, tokens.size() - done));
        llama_batch batch = llama_batch_init(count, 0, 1);
        batch.n_tokens = count;
        for (int32_t i = 0; i < count; ++i) {
            batch.token[i] = tokens[done + static_cast<size_t>(i)];
            batch.pos[i] = static_cast<llama_pos>(done) + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = seq_id;
            batch.logits[i] = 0;
        }
        whole = decode(entries_of(batch), [&] { return real().llama_decode(ctx_, batch); }) == 0;
        llama_batch_free(batch);
    }
    lock.lock();
    if (!whole) {
        real().llama_memory_seq_rm(llama_get_memory(ctx_), seq_id, -1, -1);
        logs_.erase(seq_id);
    }
    return whole;
}

void ManagedContext::copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    touch(to, 0);
    real().llama_memory_seq_cp(llama_get_memory(ctx_), from, to, p0, p1);
    if (from == to) return;
    SequenceLog& log = log_of(to);
    if (log.copy(log_of(from), p0, p1)) return;
    std::vector<llama_token> tokens = log.tokens(); // how many cells that came along are new, llama.cpp knows
    tokens.resize(static_cast<size_t>(llama_memory_seq_pos_max(llama_get_memory(ctx_), to) + 1));
    relearn(to, std::move(tokens));
}

void ManagedContext::keep(llama_seq_id seq_id) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    for (const llama_seq_id id : sequences_of(-1)) {
        if (id == seq_id) continue;
        touch(id, 0);
        logs_.erase(id);
    }
    real().llama_memory_seq_keep(llama_get_memory(ctx_), seq_id);
}

void ManagedContext::move_positions(llama_seq_id seq_id, const std::function<void()>& call) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    const auto concerned = sequences_of(seq_id);
    for (const llama_seq_id id : concerned)
        touch(id, 0);
    call();
    for (const llama_seq_id id : concerned)
        relearn(id, {});
}

llama_pos ManagedContext::pos_min(llama_seq_id seq_id) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    const llama_pos smallest = real().llama_memory_seq_pos_min(llama_get_memory(ctx_), seq_id);
    const auto log = logs_.find(seq_id);
    if (smallest < 0 || log == logs_.end() || log->second.fold().empty()) return smallest;
    const llama_pos window = params_.swa_full ? 0 : llama_model_n_swa(model_);
    return std::max(smallest, log->second.fold().end - 1 - window);
}

bool ManagedContext::can_shift() {
    Lock lock(mutex_);
    const Inside inside;
    return !policy_.automatic && real().llama_memory_can_shift(llama_get_memory(ctx_));
}

size_t ManagedContext::state_size(llama_seq_id seq_id, llama_state_seq_flags flags) {
    Lock lock(mutex_);
    const Inside inside;
    size_promised_ = true;
    return real().llama_state_seq_get_size_ext(ctx_, seq_id, flags);
}

size_t ManagedContext::get_state(uint8_t* dst, size_t size, llama_seq_id seq_id,
                                 llama_state_seq_flags flags) {
    Lock lock(mutex_);
    const Inside inside;
    const size_t written = real().llama_state_seq_get_data_ext(ctx_, dst, size, seq_id, flags);
    begin_call();
    changed_.notify_all();
    if (written > 0 && flags == kWholeState) saved_.remember({dst, written}, log_of(seq_id));
    return written;
}

size_t ManagedContext::set_state(const uint8_t* src, size_t size, llama_seq_id seq_id,
                                 llama_state_seq_flags flags) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    if (flags == kWholeState) touch(seq_id, 0);
    const size_t read = real().llama_state_seq_set_data_ext(ctx_, src, size, seq_id, flags);
    if (flags != kWholeState) return read; // a window or a recurrent state: the cells stay
    const SequenceLog* saved = read > 0 ? saved_.find({src, size}) : nullptr;
    if (saved)
        logs_[seq_id] = *saved;
    else
        relearn(seq_id, {});
    return read;
}

// Written beside the old file and then put in its place: a program that is killed meanwhile loses nothing.
size_t ManagedContext::save_file(const char* path, llama_seq_id seq_id, const llama_token* tokens,
                                 size_t count) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    const std::string fresh = kvfold::format("{}.{}.part", path, ::getpid());
    size_t written = real().llama_state_seq_save_file(ctx_, fresh.c_str(), seq_id, tokens, count);
    std::error_code error;
    if (written > 0) std::filesystem::rename(fresh, path, error);
    if (written == 0 || error) {
        std::filesystem::remove(fresh, error);
        written = 0;
    }
    return written;
}

size_t ManagedContext::load_file(const char* path, llama_seq_id seq_id, llama_token* tokens, size_t capacity,
                                 size_t* count) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    touch(seq_id, 0);
    const size_t read = real().llama_state_seq_load_file(ctx_, path, seq_id, tokens, capacity, count);
    const bool has_tokens = read > 0 && tokens && count && *count <= capacity;
    relearn(seq_id,
            has_tokens ? std::vector<llama_token>(tokens, tokens + *count) : std::vector<llama_token>());
    return read;
}

size_t ManagedContext::set_all(const std::function<size_t()>& call) {
    Lock lock(mutex_);
    const Inside inside;
    begin_call();
    for (const auto& [seq_id, log] : logs_)
        touch(seq_id, 0);
    const size_t read = call();
    relearn_all();
    return read;
}

// What the sequence holds now, from llama.cpp itself. written: what stood in front of its state in a file.
void ManagedContext::relearn(llama_seq_id seq_id, std::vector<llama_token> written) {
    const auto state = read_sequence(ctx_, seq_id);
    if (!state) {
        logs_.erase(seq_id);
        return;
    }
    const std::vector<llama_pos> positions = positions_of(*state);
    if (positions.empty()) {
        logs_.erase(seq_id);
        return;
    }
    const auto count = static_cast<size_t>(positions.back()) + 1;
    logs_[seq_id] = SequenceLog::from_positions(positions, tokens_of_file(written, count));
}

void ManagedContext::relearn_all() {
    logs_.clear();
    const auto sequences = static_cast<llama_seq_id>(llama_n_seq_max(ctx_));
    for (llama_seq_id seq_id = 0; seq_id < sequences; ++seq_id)
        relearn(seq_id, {});
}

} // namespace kvfold::preload
