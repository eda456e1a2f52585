// A batch that a program hands to llama.cpp: decoded by the program's own call, or in parts where it finds no
// room at once.
#pragma once

#include "preload/batch_log.h"

#include <functional>

namespace kvfold::preload {

class ProgramBatch {
  public:
    ProgramBatch(std::vector<BatchEntry> entries, std::function<int32_t()> call)
        : entries_(std::move(entries)), call_(std::move(call)) {}
    virtual ~ProgramBatch() = default;

    const std::vector<BatchEntry>& entries() const { return entries_; }
    bool is_text() const;          // tokens alone: images are one piece
    bool wants_embeddings() const; // for some entry, and not its logits alone

    int32_t decode() const { return call_(); } // all of it, by the program's own call, once
    virtual int32_t decode_again() = 0;        // all of it, after that call found no room
    // Entries [first, first + count). REQUIRES: is_text(). -3 when there is no memory for a batch.
    virtual int32_t decode_part(size_t first, size_t count) = 0;

  private:
    std::vector<BatchEntry> entries_;
    std::function<int32_t()> call_;
};

class PlainBatch : public ProgramBatch {
  public:
    PlainBatch(llama_context* ctx, const llama_batch& batch, std::function<int32_t()> call)
        : ProgramBatch(entries_of(batch), std::move(call)), ctx_(ctx), batch_(batch) {}
    int32_t decode_again() override;
    int32_t decode_part(size_t first, size_t count) override;

  private:
    llama_context* ctx_;
    llama_batch batch_;
};

class ExtendedBatch : public ProgramBatch {
  public:
    ExtendedBatch(llama_context* ctx, llama_batch_ext* batch, std::vector<BatchEntry> entries,
                  std::function<int32_t()> call)
        : ProgramBatch(std::move(entries), std::move(call)), ctx_(ctx), batch_(batch) {}
    int32_t decode_again() override;
    int32_t decode_part(size_t first, size_t count) override;

  private:
    llama_context* ctx_;
    llama_batch_ext* batch_;
};

} // namespace kvfold::preload
