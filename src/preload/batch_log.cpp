#include "preload/batch_log.h"

namespace kvfold::preload {

std::vector<BatchEntry> entries_of(const llama_batch& batch) {
    std::vector<BatchEntry> entries(static_cast<size_t>(batch.n_tokens));
    for (int32_t i = 0; i < batch.n_tokens; ++i) {
        BatchEntry& entry = entries[static_cast<size_t>(i)];
        if (batch.token) entry.token = batch.token[i];
        if (batch.pos) entry.pos = batch.pos[i];
        if (batch.n_seq_id && batch.seq_id)
            entry.seq_ids.assign(batch.seq_id[i], batch.seq_id[i] + batch.n_seq_id[i]);
        else
            entry.seq_ids = {0};
        entry.output = batch.logits ? batch.logits[i] != 0 : i + 1 == batch.n_tokens;
        entry.has_embedding = batch.embd != nullptr;
    }
    return entries;
}

void BatchLog::add(const llama_batch_ext* batch, int32_t index, llama_seq_id seq_id, llama_token token) {
    if (index < 0) return; // llama.cpp refused it
    const std::lock_guard lock(mutex_);
    auto& entries = batches_[batch];
    entries.resize(static_cast<size_t>(index));
    BatchEntry& added = entries.emplace_back();
    added.token = token;
    added.seq_ids = {seq_id};
}

void BatchLog::add_sequence(const llama_batch_ext* batch, int32_t index, llama_seq_id seq_id) {
    const std::lock_guard lock(mutex_);
    if (BatchEntry* found = entry(batch, index)) found->seq_ids.push_back(seq_id);
}

void BatchLog::set_pos(const llama_batch_ext* batch, int32_t index, llama_pos pos) {
    const std::lock_guard lock(mutex_);
    if (BatchEntry* found = entry(batch, index)) found->pos = pos;
}

void BatchLog::set_output(const llama_batch_ext* batch, int32_t index, bool output) {
    const std::lock_guard lock(mutex_);
    if (BatchEntry* found = entry(batch, index)) found->output = output;
}

void BatchLog::set_output_embedding(const llama_batch_ext* batch, int32_t index, bool output) {
    const std::lock_guard lock(mutex_);
    if (BatchEntry* found = entry(batch, index)) found->output = found->wants_embedding = output;
}

void BatchLog::set_embedding(const llama_batch_ext* batch, int32_t index) {
    const std::lock_guard lock(mutex_);
    if (BatchEntry* found = entry(batch, index)) found->has_embedding = true;
}

void BatchLog::clear(const llama_batch_ext* batch) {
    const std::lock_guard lock(mutex_);
    if (const auto found = batches_.find(batch); found != batches_.end()) found->second.clear();
}

void BatchLog::free(const llama_batch_ext* batch) {
    const std::lock_guard lock(mutex_);
    batches_.erase(batch);
}

std::vector<BatchEntry> BatchLog::entries(const llama_batch_ext* batch) const {
    const std::lock_guard lock(mutex_);
    const auto found = batches_.find(batch);
    return found == batches_.end() ? std::vector<BatchEntry>() : found->second;
}

BatchEntry* BatchLog::entry(const llama_batch_ext* batch, int32_t index) {
    const auto found = batches_.find(batch);
    if (found == batches_.end() || index < 0 || static_cast<size_t>(index) >= found->second.size())
        return nullptr;
    return &found->second[static_cast<size_t>(index)];
}

} // namespace kvfold::preload
