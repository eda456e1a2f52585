// What stands in the batches that a program hands to llama.cpp: which token, where, for which sequences.
// The extended batch is opaque, so its entries are noted down while the program adds them.
#pragma once

#include <llama.h>

#include <mutex>
#include <unordered_map>
#include <vector>

namespace kvfold::preload {

struct BatchEntry {
    llama_token token = LLAMA_TOKEN_NULL; // null: an embedding
    llama_pos pos = -1;                   // -1: not given; llama.cpp continues the sequence
    std::vector<llama_seq_id> seq_ids;
    bool output = false; // the program wants logits or an embedding of it
    bool wants_embedding = false;
    bool has_embedding = false; // an embedding stands for the token, or beside it
};

// Without logits flags only the last token has an output.
std::vector<BatchEntry> entries_of(const llama_batch& batch);

// Notes for extended batches. Thread-safe; a batch itself belongs to one thread.
class BatchLog {
  public:
    void add(const llama_batch_ext* batch, int32_t index, llama_seq_id seq_id, llama_token token);
    void add_sequence(const llama_batch_ext* batch, int32_t index, llama_seq_id seq_id);
    void set_pos(const llama_batch_ext* batch, int32_t index, llama_pos pos);
    void set_output(const llama_batch_ext* batch, int32_t index, bool output);
    void set_output_embedding(const llama_batch_ext* batch, int32_t index, bool output);
    void set_embedding(const llama_batch_ext* batch, int32_t index);
    void clear(const llama_batch_ext* batch);
    void free(const llama_batch_ext* batch);
    std::vector<BatchEntry> entries(const llama_batch_ext* batch) const;

  private:
    BatchEntry* entry(const llama_batch_ext* batch, int32_t index); // null when there is none
    mutable std::mutex mutex_;
    std::unordered_map<const llama_batch_ext*, std::vector<BatchEntry>> batches_;
};

} // namespace kvfold::preload
