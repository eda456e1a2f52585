#include "measure/forced_answer.h"

#include "model/context.h"

namespace kvfold {

Result<Matrix> forced_answer(llama_context* ctx, const Probe& probe, size_t first_pos) {
    const std::span<const llama_token> prompt = probe.prompt;
    std::vector<llama_token> judged = {prompt.back()};
    judged.insert(judged.end(), probe.answer.begin(), probe.answer.end() - 1);
    const auto pos = static_cast<llama_pos>(first_pos);
    KVFOLD_CHECK(decode_tokens(ctx, prompt.first(prompt.size() - 1), pos, Outputs::none));
    KVFOLD_CHECK(decode_tokens(ctx, judged, pos + static_cast<llama_pos>(prompt.size() - 1), Outputs::all));
    const Index vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    return Matrix(Eigen::Map<const Matrix>(llama_get_logits(ctx), std::ssize(judged), vocabulary));
}

} // namespace kvfold
