// The logits of a batch that is decoded in parts. llama.cpp keeps those of its newest batch alone, so those
// of all parts but the last are kept here, until the program's next batch.
#pragma once

#include "preload/batch_log.h"

#include <span>

namespace kvfold::preload {

class PartOutputs {
  public:
    // A batch of the program begins. Until a part of it is kept, llama.cpp has all of its outputs.
    void begin(std::span<const BatchEntry> entries);
    // It will be decoded in parts: room for all outputs, `width` logits each. Throws bad_alloc.
    void reserve(size_t width);
    // The part that begins with entry `first` was decoded: the rows of its outputs, in their order.
    void keep(size_t first, size_t count, const float* rows);
    // The rest of the batch, from entry `first` on, is in llama.cpp.
    void end(size_t first);

    // Of an output that the program asks for: an entry of its batch, or negative, counted from the last
    // output. Null when llama.cpp has it, at index_in_last.
    float* find(int32_t index);
    int32_t index_in_last(int32_t index) const;
    // All rows, or null when llama.cpp has them all. last: those that it has.
    float* all(const float* last);

  private:
    size_t wanted(size_t first, size_t count) const;
    std::vector<bool> wanted_; // of each entry
    size_t width_ = 0;
    std::vector<size_t> kept_; // entries whose outputs rows_ are; rising
    std::vector<float> rows_;
    size_t last_begins_ = 0;
};

} // namespace kvfold::preload
