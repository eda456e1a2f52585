#include "model/context.h"

namespace kvfold {

Result<ContextPtr> new_context(llama_model* model, const llama_context_params& params,
                               const Adapters& adapters) {
    ContextPtr ctx(llama_init_from_model(model, params));
    if (!ctx) {
        return fail(ErrorCode::memory,
                    "llama.cpp could not create a context of {} cells (K {}, V {}): not enough memory, or "
                    "cache types that this model cannot use",
                    params.n_ctx, ggml_type_name(params.type_k), ggml_type_name(params.type_v));
    }
    KVFOLD_CHECK(set_adapters(ctx.get(), adapters));
    return ctx;
}

namespace {

// A llama_batch; the arrays live as long as the object.
class Batch {
  public:
    explicit Batch(std::span<const BatchToken> tokens) : seq_counts_(tokens.size(), 1) {
        for (const BatchToken& each : tokens) {
            tokens_.push_back(each.token);
            positions_.push_back(each.pos);
            sequences_.push_back(each.seq_id);
            outputs_.push_back(each.output);
        }
        for (llama_seq_id& sequence : sequences_)
            seq_ids_.push_back(&sequence);
    }

    llama_batch view() {
        return {static_cast<int32_t>(tokens_.size()),
                tokens_.data(),
                nullptr,
                positions_.data(),
                seq_counts_.data(),
                seq_ids_.data(),
                outputs_.data()};
    }

  private:
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<int32_t> seq_counts_;
    std::vector<llama_seq_id> sequences_;
    std::vector<llama_seq_id*> seq_ids_; // into sequences_
    std::vector<int8_t> outputs_;
};

} // namespace

Status decode_batch(llama_context* ctx, std::span<const BatchToken> tokens) {
    Batch batch(tokens);
    switch (const int32_t status = llama_decode(ctx, batch.view()); status) {
    case 0:
        return {};
    case 1:
        return fail(ErrorCode::llama, "no free cells for {} more tokens in a context of {}", tokens.size(),
                    llama_n_ctx(ctx));
    case 2:
        return fail(ErrorCode::cancelled, "cancelled");
    default:
        return fail(ErrorCode::llama, "llama_decode failed with {} at position {}", status,
                    tokens.front().pos);
    }
}

Status decode_tokens(llama_context* ctx, std::span<const llama_token> tokens, llama_pos first_pos,
                     Outputs outputs, llama_seq_id seq_id) {
    const size_t n_batch = llama_n_batch(ctx);
    for (size_t done = 0; done < tokens.size(); done += n_batch) {
        std::vector<BatchToken> batch;
        for (size_t i = done; i < std::min(done + n_batch, tokens.size()); ++i) {
            const bool is_last = i + 1 == tokens.size();
            const bool in_newest = tokens.size() - done <= n_batch;
            batch.push_back(
                {tokens[i], first_pos + static_cast<llama_pos>(i), seq_id,
                 (outputs == Outputs::last && is_last) || (outputs == Outputs::all && in_newest)});
        }
        KVFOLD_CHECK(decode_batch(ctx, batch));
    }
    return {};
}

} // namespace kvfold
