// What the model's attention nodes look like.
#pragma once

#include "base/matrix.h"

#include <ggml-backend.h>

namespace kvfold {

// One attention layer, as its flash-attention node shows it.
struct AttentionLayer {
    int layer = 0;                       // the model's layer number, that of its cache
    size_t cache = 0;                    // index of its keys and values in the section of a sequence state
    Index readers = 1;                   // layers that read this cache; some models share one between several
    Index heads = 0;                     // query heads
    Index kv_heads = 0;                  // H; heads / kv_heads query heads share one KV head
    Index key_width = 0;                 // d
    Index value_width = 0;               // dv
    float scale = 1;                     // factor of the logits
    float softcap = 0;                   // of the logits; 0 = none
    float alibi = 0;                     // largest ALiBi slope; 0 = the model has none
    bool on_host = true;                 // its cache lies in memory that the processor reads
    ggml_backend_dev_t device = nullptr; // that holds it; null where nobody says
    bool latent = false;                 // values are a view of the keys (MLA)
};

} // namespace kvfold
