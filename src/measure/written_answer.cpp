#include "measure/written_answer.h"

#include "measure/forced_answer.h"
#include "model/context.h"
#include "model/model.h"
#include "study/sources.h"

namespace kvfold {

namespace {

constexpr size_t kSpareWritten = 12; // tokens, for a few words around the answer
constexpr const char* kBlank = " \t\r\n";

// The first line with something on it, once a line break ends it.
bool has_line(const std::string& text) {
    const size_t begin = text.find_first_not_of(kBlank);
    return begin != std::string::npos && text.find('\n', begin) != std::string::npos;
}

std::string first_line(const std::string& text) {
    const size_t begin = text.find_first_not_of(kBlank);
    return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

} // namespace

size_t most_written(const Probe& probe) { return probe.answer.size() + kSpareWritten; }

Result<std::string> write_answer(const llama_model* model, const Probe& probe, const ReadToken& read) {
    const llama_vocab* vocab = llama_model_get_vocab(model);
    std::vector<llama_token> written;
    llama_token token = probe.prompt.back();
    std::string text;
    while (written.size() < most_written(probe) && !has_line(text)) {
        KVFOLD_TRY(const Matrix logits, read(token));
        Index top = 0;
        logits.row(0).maxCoeff(&top);
        token = static_cast<llama_token>(top);
        if (llama_vocab_is_eog(vocab, token)) break;
        written.push_back(token);
        text = detokenize(model, written);
    }
    return first_line(text);
}

Result<std::string> written_answer(llama_context* ctx, const Probe& probe, size_t first_pos) {
    const TokenSpan prompt = probe.prompt;
    auto pos = static_cast<llama_pos>(first_pos);
    KVFOLD_CHECK(decode_tokens(ctx, prompt.first(prompt.size() - 1), pos, Outputs::none));
    pos += static_cast<llama_pos>(prompt.size() - 1);
    return write_answer(llama_get_model(ctx), probe, [&](llama_token token) -> Result<Matrix> {
        KVFOLD_CHECK(decode_tokens(ctx, {&token, 1}, pos++, Outputs::all));
        return newest_logits(ctx, 1);
    });
}

} // namespace kvfold
