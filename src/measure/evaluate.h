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

struct EvalRow {
    std::string method;
    double ratio = 0;
    CompactReport report;
    Divergence divergence;
};

struct EvalRequest {
    std::span<const llama_token> tokens; // context, then continuation: REQUIRES context < tokens.size()
    size_t context = 2048;               // tokens that are prefilled and compacted
    std::vector<double> ratios = {8};
    std::vector<const Method*> methods;
    CompactRequest compact; // method, ratio and tokens are set row by row
};

struct EvalReport {
    size_t continuation = 0; // tokens that were teacher-forced
    double prefill_s = 0;
    Divergence noise_floor; // the same cells in another order: what reading a cache back costs already
    std::vector<EvalRow> rows;
};

// Prefills sequence 0 of ctx, then for every method and ratio: compacts, teacher-forces the continuation,
// compares with the full cache, and puts the full cache back. Memory: two sets of logits, continuation x
// vocabulary floats each. REQUIRES: ctx with room for all tokens, n_batch >= continuation.
Result<EvalReport> evaluate(llama_context* ctx, const EvalRequest& request,
                            const std::function<void(const EvalRow&)>& on_row = {});

} // namespace kvfold
