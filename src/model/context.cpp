#include "model/context.h"

namespace kvfold {

Result<ContextPtr> new_context(llama_model* model, const llama_context_params& params,
                               const Adapters& adapters) {
    ContextPtr ctx(llama_init_from_model(model, params));
    if (!ctx) {
        return fail(ErrorCode::llama,
                    "llama.cpp could not create a context of {} cells (K {}, V {}): not enough memory, or "
                    "cache types that this model cannot use",
                    params.n_ctx, ggml_type_name(params.type_k), ggml_type_name(params.type_v));
    }
    KVFOLD_CHECK(set_adapters(ctx.get(), adapters));
    return ctx;
}

namespace {

// One llama_batch of consecutive tokens of a sequence; the arrays live as long as the object.
class Batch {
  public:
    Batch(std::span<const llama_token> tokens, llama_pos first_pos, Outputs outputs, llama_seq_id seq_id)
        : sequence_(seq_id), tokens_(tokens.begin(), tokens.end()), positions_(tokens.size()),
          seq_counts_(tokens.size(), 1), seq_ids_(tokens.size(), &sequence_),
          outputs_(tokens.size(), outputs == Outputs::all) {
        for (size_t i = 0; i < tokens.size(); ++i)
            positions_[i] = first_pos + static_cast<llama_pos>(i);
        if (outputs == Outputs::last) outputs_.back() = 1;
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
    llama_seq_id sequence_;
    std::vector<llama_token> tokens_;
    std::vector<llama_pos> positions_;
    std::vector<int32_t> seq_counts_;
    std::vector<llama_seq_id*> seq_ids_;
    std::vector<int8_t> outputs_;
};

} // namespace

Status decode_tokens(llama_context* ctx, std::span<const llama_token> tokens, llama_pos first_pos,
                     Outputs outputs, llama_seq_id seq_id) {
    const size_t n_batch = llama_n_batch(ctx);
    for (size_t done = 0; done < tokens.size(); done += n_batch) {
        const auto chunk = tokens.subspan(done, std::min(n_batch, tokens.size() - done));
        const bool newest = done + chunk.size() == tokens.size();
        Batch batch(chunk, first_pos + static_cast<llama_pos>(done), newest ? outputs : Outputs::none,
                    seq_id);
        switch (const int32_t status = llama_decode(ctx, batch.view()); status) {
        case 0:
            break;
        case 1:
            return fail(ErrorCode::llama, "no free cells for {} more tokens in a context of {}", chunk.size(),
                        llama_n_ctx(ctx));
        case 2:
            return fail(ErrorCode::cancelled, "cancelled");
        default:
            return fail(ErrorCode::llama, "llama_decode failed with {} at position {}", status,
                        first_pos + static_cast<llama_pos>(done));
        }
    }
    return {};
}

} // namespace kvfold
