#include "measure/forced_answer.h"

#include "model/context.h"

namespace kvfold {

std::vector<llama_token> predicting_tokens(const Probe& probe) {
    std::vector<llama_token> tokens = {probe.prompt.back()};
    tokens.insert(tokens.end(), probe.answer.begin(), probe.answer.end() - 1);
    return tokens;
}

Matrix newest_logits(llama_context* ctx, size_t count) {
    const Index vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    return Eigen::Map<const Matrix>(llama_get_logits(ctx), static_cast<Index>(count), vocabulary);
}

Result<Matrix> forced_answer(llama_context* ctx, const Probe& probe, size_t first_pos) {
    const std::span<const llama_token> prompt = probe.prompt;
    const std::vector<llama_token> judged = predicting_tokens(probe);
    const auto pos = static_cast<llama_pos>(first_pos);
    KVFOLD_CHECK(decode_tokens(ctx, prompt.first(prompt.size() - 1), pos, Outputs::none));
    KVFOLD_CHECK(decode_tokens(ctx, judged, pos + static_cast<llama_pos>(prompt.size() - 1), Outputs::all));
    return newest_logits(ctx, judged.size());
}

} // namespace kvfold
