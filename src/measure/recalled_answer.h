// What a compact cache answers when the question, and then the answer itself, recalls cells of the archive.
#pragma once

#include "engine/recall.h"
#include "measure/task.h"
#include "study/query_tap.h"

namespace kvfold {

struct RecallingCache {
    llama_context* ctx; // sequence 0 holds `compact`
    TapPlace& tap;      // of ctx
    const AttentionMap& map;
    const SequenceState& compact;
    std::span<const Recallable> sources; // what was folded
    const KeptKeys& kept;                // of it
    int32_t end = 0;                     // position behind the context
    size_t count = 0;                    // cells of each KV head
    size_t every = 0;                    // the pace at which the answer asks; 0: the prompt alone asks
    int threads = 1;
};

// The logits of forced_answer, of the recalling cache. Fails as recall, decode_tokens and write_sequence.
Result<Matrix> recalled_answer(const RecallingCache& cache, const Probe& probe);

// The text of written_answer, of the recalling cache. Fails likewise.
Result<std::string> recalled_written_answer(const RecallingCache& cache, const Probe& probe);

} // namespace kvfold
