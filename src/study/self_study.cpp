#include "study/self_study.h"

#include "model/model.h"

#include <algorithm>
#include <array>

namespace kvfold {

namespace {

// The first continues the text itself; the others ask what readers of a text ask.
constexpr std::array kPrompts = {
    "",
    "Summarize the key facts of the text above.",
    "List the names, numbers and places that the text above mentions, and what they mean.",
    "Ask a question about a detail of the text above and answer it.",
    "Explain the text above in your own words.",
};

constexpr size_t kDraft = 64; // tokens a draft: more, shorter drafts see more of the context

std::vector<llama_token> prompt_tokens(const llama_model* model, const char* prompt) {
    if (!*prompt) return {};
    const ChatMessage message{"user", prompt};
    const std::string in_template = apply_chat_template(model, {&message, 1}, /*assistant_next=*/true);
    if (!in_template.empty()) return tokenize(model, in_template, /*add_bos=*/false, /*special=*/true);
    return tokenize(model, std::string("\n\n") + prompt + "\n", /*add_bos=*/false, /*special=*/false);
}

// One draft. A continuation starts by decoding the newest token again, for its logits.
Result<std::vector<llama_token>> draft(Scratch& scratch, const llama_model* model, const char* prompt,
                                       llama_token newest, size_t count, std::mt19937_64& rng) {
    const std::vector<llama_token> tokens = prompt_tokens(model, prompt);
    if (!tokens.empty()) {
        KVFOLD_CHECK(scratch.rewind());
        return scratch.sample(tokens, scratch.end(), count, rng);
    }
    KVFOLD_CHECK(scratch.rewind_to(scratch.end() - 1));
    KVFOLD_TRY(std::vector<llama_token> drafted, scratch.sample({&newest, 1}, scratch.end() - 1, count, rng));
    drafted.erase(drafted.begin());
    return drafted;
}

} // namespace

uint32_t draft_cells(const llama_model* model) {
    size_t longest = 0;
    for (const char* prompt : kPrompts)
        longest = std::max(longest, prompt_tokens(model, prompt).size());
    return static_cast<uint32_t>(longest + kDraft);
}

Result<std::vector<Passage>> draft_passages(Scratch& scratch, const llama_model* model, llama_token newest,
                                            size_t count, std::mt19937_64& rng) {
    std::vector<Passage> passages;
    size_t drafted = 0;
    for (size_t i = 0; drafted < count; ++i) {
        KVFOLD_CHECK(scratch.report(Stage::draft, static_cast<float>(drafted) / static_cast<float>(count)));
        const char* prompt = kPrompts[i % kPrompts.size()];
        if (!*prompt && newest == LLAMA_TOKEN_NULL) continue;
        KVFOLD_TRY(std::vector<llama_token> tokens, draft(scratch, model, prompt, newest, kDraft, rng));
        drafted += std::max<size_t>(tokens.size(), 1);
        if (!tokens.empty()) passages.push_back({std::move(tokens), scratch.end()});
    }
    return passages;
}

} // namespace kvfold
