// A llama_context that frees itself, and the few calls on it that more than one folder needs.
#pragma once

#include "model/adapters.h"

#include <llama.h>

#include <memory>
#include <span>
#include <vector>

namespace kvfold {

struct ContextDeleter {
    void operator()(llama_context* ctx) const { llama_free(ctx); }
};
using ContextPtr = std::unique_ptr<llama_context, ContextDeleter>;

// Fails with `llama` and the sizes asked for.
Result<ContextPtr> new_context(llama_model* model, const llama_context_params& params,
                               const Adapters& adapters = {});

struct BatchToken {
    llama_token token;
    llama_pos pos;
    llama_seq_id seq_id;
    bool output; // whether its logits are wanted
};

// Decodes tokens of any sequences as one batch. Fails with `cancelled` if the abort callback of the context
// stopped it, else with `llama`. REQUIRES: no more than n_batch.
Status decode_batch(llama_context* ctx, std::span<const BatchToken> tokens);

enum class Outputs { none, last, all };

// Decodes tokens into a sequence at positions first_pos, first_pos + 1, ..., in batches of n_batch.
// Outputs::all keeps only the logits of the newest batch: REQUIRES tokens.size() <= n_batch then.
// Fails as decode_batch does.
Status decode_tokens(llama_context* ctx, std::span<const llama_token> tokens, llama_pos first_pos,
                     Outputs outputs, llama_seq_id seq_id = 0);

} // namespace kvfold
