// Quality of a compact cache: how far the next-token distributions move from those of the full cache.
#pragma once

#include "engine/compact.h"

#include <optional>
#include <string>
#include <vector>

namespace kvfold {

struct Divergence {
    double kl = 0;           // mean KL(full || compact) of the next token, nats
    double kl_first64 = 0;   // the same over the first 64 tokens
    double top1 = 0;         // share of tokens whose most likely next token is the same
    double dnll = 0;         // mean negative log-likelihood of the text: compact - full, nats
    double logit_cosine = 0; // mean cosine of the logits; says little: truncation scores 0.95 to 0.99
};

// A cache to measure. The first of a request is the one that all are compared with.
struct EvalCache {
    std::string name; // for the reader
    ggml_type type_k = GGML_TYPE_F16, type_v = GGML_TYPE_F16;
};

struct EvalRow {
    std::string cache;
    std::string method; // "full": no compaction, the cost of the cache's type alone
    double ratio = 0;   // bytes of a cell x cells, of the first cache in full / of this one
    CompactReport report;
    std::optional<size_t> peak_extra_bytes; // of the compaction, beyond what was resident before
    Divergence divergence;
};

struct EvalRequest {
    std::span<const llama_token> tokens; // context, then continuation: REQUIRES context < tokens.size()
    size_t context = 2048;               // tokens that are prefilled and compacted
    std::vector<EvalCache> caches = {{"f16"}};
    std::vector<double> ratios = {8}; // of bytes against the first cache, so that caches of all types cost the same
    std::vector<const Method*> methods;
    CompactRequest compact; // method, ratio, tokens, and of `context` sizes and types are set row by row
};

struct EvalReport {
    size_t continuation = 0; // tokens that were teacher-forced
    double prefill_s = 0;
    Divergence noise_floor; // the same cells in another order: what reading a cache back costs already
    size_t bytes = 0;       // of the sequence in the first cache, in full
    std::vector<EvalRow> rows;
};

// Prefills a context of each cache's type, then for every ratio and method: compacts, teacher-forces the continuation,
// compares with the first cache in full, and puts the full cache back. Caches behind the first have a row "full" too.
// A ratio that a cache's type reaches alone is refused. Memory: one context at a time, two sets of logits, continuation x
// vocabulary floats each. REQUIRES: caches that are not empty. Fails as compact_sequence.
Result<EvalReport> evaluate(llama_model* model, const EvalRequest& request,
                            const std::function<void(const EvalRow&)>& on_row = {});

} // namespace kvfold
