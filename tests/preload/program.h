// A program whose calls on a context go through a ManagedContext, as the wrappers send them.
#pragma once

#include "preload/managed_context.h"
#include "preload/once.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace kvfold::preload {

inline constexpr std::nullopt_t kWhateverItTakes = std::nullopt; // Recalling::time_share: no clock decides

// A llama_batch that is filled token by token.
class Batch {
  public:
    explicit Batch(int32_t most) : batch_(llama_batch_init(std::max(1, most), 0, 2)) {}
    ~Batch() { llama_batch_free(batch_); }
    Batch(const Batch&) = delete;
    Batch& operator=(const Batch&) = delete;
    void add(llama_token token, llama_pos pos, const std::vector<llama_seq_id>& owners, bool output) {
        const int32_t i = batch_.n_tokens++;
        batch_.token[i] = token;
        batch_.pos[i] = pos;
        batch_.n_seq_id[i] = static_cast<int32_t>(owners.size());
        std::ranges::copy(owners, batch_.seq_id[i]);
        batch_.logits[i] = output;
    }
    const llama_batch& get() const { return batch_; }

  private:
    llama_batch batch_;
};

class Program {
  public:
    Program(llama_context* ctx, llama_model* model, const llama_context_params& params, const Policy& policy,
            size_t archive_bytes, Recalling recalling, std::filesystem::path archive_folder = {})
        : ctx_(ctx), managed_(ctx, model, params,
                              {.virtual_factor = 4,
                               .asked_batch = 2048,
                               .cell_bytes = 1,
                               .archive_bytes = archive_bytes,
                               .archive_folder = std::move(archive_folder)},
                              std::move(recalling), policy) {}

    ManagedContext& managed() { return managed_; }
    Json state() { return managed_.state(); }
    bool is_folding() {
        const auto folds = [](const Json& sequence) { return sequence["folding"].get<bool>(); };
        return std::ranges::any_of(state()["sequences"], folds);
    }
    void settle() { // no fold runs on
        while (is_folding())
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }

    // What llama.cpp holds of a sequence. A fold that runs does not swap meanwhile.
    Result<SequenceState> read(llama_seq_id seq_id) {
        const auto original = [&] { return read_sequence(ctx_, seq_id); };
        return managed_.undisturbed<Result<SequenceState>>(original);
    }
    llama_pos end(llama_seq_id seq_id) {
        const auto original = [&] { return llama_memory_seq_pos_max(memory(), seq_id); };
        return managed_.undisturbed<llama_pos>(original) + 1;
    }

    int32_t decode(const Batch& batch) {
        Once once([&] { return llama_decode(ctx_, batch.get()); });
        PlainBatch given(ctx_, batch.get(), std::ref(once));
        return managed_.decode(given);
    }
    bool remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1) {
        return managed_.remove(seq_id, p0, p1, [&] { return llama_memory_seq_rm(memory(), seq_id, p0, p1); });
    }
    void copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1) {
        managed_.copy(from, to, p0, p1, [&] { llama_memory_seq_cp(memory(), from, to, p0, p1); });
    }
    void keep(llama_seq_id seq_id) {
        managed_.keep(seq_id, [&] { llama_memory_seq_keep(memory(), seq_id); });
    }
    void add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta) {
        managed_.add(seq_id, p0, p1, delta, [&] { llama_memory_seq_add(memory(), seq_id, p0, p1, delta); });
    }
    llama_pos pos_min(llama_seq_id seq_id) {
        return managed_.pos_min(seq_id, [&] { return llama_memory_seq_pos_min(memory(), seq_id); });
    }
    size_t state_size(llama_seq_id seq_id) {
        return managed_.state_size(seq_id, LLAMA_STATE_SEQ_FLAGS_NONE,
                                   [&] { return llama_state_seq_get_size(ctx_, seq_id); });
    }
    size_t get_state(std::vector<uint8_t>& bytes, llama_seq_id seq_id) {
        return managed_.get_state(bytes.data(), seq_id, LLAMA_STATE_SEQ_FLAGS_NONE, [&] {
            return llama_state_seq_get_data(ctx_, bytes.data(), bytes.size(), seq_id);
        });
    }
    std::vector<uint8_t> saved_state(llama_seq_id seq_id) {
        std::vector<uint8_t> bytes(state_size(seq_id));
        bytes.resize(get_state(bytes, seq_id));
        return bytes;
    }
    size_t restore_state(const std::vector<uint8_t>& bytes, llama_seq_id seq_id) {
        return managed_.set_state(bytes, seq_id, LLAMA_STATE_SEQ_FLAGS_NONE, [&] {
            return llama_state_seq_set_data(ctx_, bytes.data(), bytes.size(), seq_id);
        });
    }
    std::vector<uint8_t> saved_session() {
        std::vector<uint8_t> bytes(
            managed_.state_size(-1, LLAMA_STATE_SEQ_FLAGS_NONE, [&] { return llama_state_get_size(ctx_); }));
        const auto original = [&] { return llama_state_get_data(ctx_, bytes.data(), bytes.size()); };
        bytes.resize(managed_.get_state(bytes.data(), -1, LLAMA_STATE_SEQ_FLAGS_NONE, original));
        return bytes;
    }
    size_t restore_session(const std::vector<uint8_t>& bytes) {
        return managed_.set_all([&] { return llama_state_set_data(ctx_, bytes.data(), bytes.size()); },
                                [] { return std::span<const llama_token>(); });
    }
    size_t save(const char* path, llama_seq_id seq_id, std::span<const llama_token> words) {
        return managed_.save_file(path, seq_id, words, [&] {
            return llama_state_seq_save_file(ctx_, path, seq_id, words.data(), words.size());
        });
    }
    size_t load(const char* path, llama_seq_id seq_id, std::span<llama_token> words, size_t& count) {
        return managed_.load_file(path, seq_id, words, &count, [&] {
            return llama_state_seq_load_file(ctx_, path, seq_id, words.data(), words.size(), &count);
        });
    }

  private:
    llama_memory_t memory() { return llama_get_memory(ctx_); }
    llama_context* ctx_;
    ManagedContext managed_;
};

} // namespace kvfold::preload
