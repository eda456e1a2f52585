#include "preload/program_batch.h"

#include "preload/real.h"

#include <algorithm>
#include <memory>

namespace kvfold::preload {

namespace {

constexpr int32_t kNoMemory = -3;

struct FreeBatch {
    void operator()(llama_batch_ext* batch) const { real().llama_batch_ext_free(batch); }
};

} // namespace

bool ProgramBatch::is_text() const {
    return std::ranges::none_of(entries_, [](const BatchEntry& entry) {
        return entry.token == LLAMA_TOKEN_NULL || entry.has_embedding;
    });
}

bool ProgramBatch::wants_embeddings() const {
    return std::ranges::any_of(entries_, &BatchEntry::wants_embedding);
}

int32_t PlainBatch::decode_again() { return real().llama_decode(ctx_, batch_); }

int32_t PlainBatch::decode_part(size_t first, size_t count) {
    llama_batch part = batch_;
    part.n_tokens = static_cast<int32_t>(count);
    part.token += first;
    if (part.pos) part.pos += first;
    if (part.n_seq_id) part.n_seq_id += first;
    if (part.seq_id) part.seq_id += first;
    std::vector<int8_t> outputs;
    for (size_t i = first; i < first + count; ++i)
        outputs.push_back(entries()[i].output);
    part.logits = outputs.data();
    return real().llama_decode(ctx_, part);
}

int32_t ExtendedBatch::decode_again() {
    return real().llama_process(ctx_, LLAMA_PROCESS_TYPE_DECODE, batch_);
}

int32_t ExtendedBatch::decode_part(size_t first, size_t count) {
    const std::unique_ptr<llama_batch_ext, FreeBatch> part(llama_batch_ext_init(ctx_));
    if (!part) return kNoMemory;
    for (size_t i = first; i < first + count; ++i) {
        const BatchEntry& entry = entries()[i];
        const int32_t index =
            real().llama_batch_ext_add_token(part.get(), entry.seq_ids.front(), entry.token);
        if (index < 0) return kNoMemory;
        for (size_t k = 1; k < entry.seq_ids.size(); ++k)
            real().llama_batch_ext_add_seq(part.get(), index, entry.seq_ids[k]);
        if (entry.pos >= 0) real().llama_batch_ext_set_pos(part.get(), index, &entry.pos);
        if (entry.output) real().llama_batch_ext_set_output_logits(part.get(), index, true);
    }
    return real().llama_process(ctx_, LLAMA_PROCESS_TYPE_DECODE, part.get());
}

} // namespace kvfold::preload
