// What can be compacted in a model: found by decoding one token in a small context, not by its architecture.
#pragma once

#include "base/result.h"
#include "model/attention_layer.h"

#include <llama.h>

#include <vector>

namespace kvfold {

struct AttentionMap {
    // The layers of the first cache section of a sequence state, in its order: those that see the whole
    // context. Layers with a sliding window stand in the second section and are left alone.
    std::vector<AttentionLayer> layers;
    bool has_window = false;    // a second section with a sliding window
    bool has_recurrent = false; // recurrent layers: their state cannot be rolled back
    uint32_t version = 0;       // of the states that this llama.cpp writes (state/sequence_state.h)
};

// params: as the context to compact was made (RoPE scaling and the like); sizes and callbacks are replaced.
// Fails with `unsupported` and the reason for encoders, models without a cache, recurrent, diffusion and
// ALiBi models. Takes a few milliseconds and 32 cells.
Result<AttentionMap> probe_attention(llama_model* model, llama_context_params params);

// Whether llama.cpp makes a cache of that type for keys and values: its blocks must divide the heads' widths.
bool can_have_cells(const AttentionMap& map, ggml_type type);

// Of a cell in all those layers, in a cache of these types. REQUIRES: can_have_cells of both.
size_t bytes_of_cell(const AttentionMap& map, ggml_type keys, ggml_type values);

} // namespace kvfold
