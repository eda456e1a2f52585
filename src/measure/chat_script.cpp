#include "measure/chat_script.h"

#include "measure/facts.h"
#include "measure/said.h"
#include "model/model.h"

namespace kvfold {

namespace {

constexpr size_t kPinned = 8;
constexpr int kSentencesAnAnswer = 3;
constexpr const char* kRecall = "Please repeat word for word what I asked you to remember.";

// The statement up to the answer. Asked in other words, as task questions does, a small model remembers less
// than a fifth with its full cache, and there is nothing left that folding could lose.
std::string lead_of(const Fact& fact) {
    return fact.statement.substr(0, fact.statement.rfind(" " + fact.answer));
}

} // namespace

ChatScript::ChatScript(const llama_model* model, uint64_t seed) : model_(model), rng_(seed) {
    for (const Fact& fact : make_facts(kPinned, rng_)) {
        statements_.push_back(fact.statement);
        std::vector<llama_token> prompt = user_says(model_, kRecall, /*is_first=*/false);
        append(prompt, words(lead_of(fact)));
        recall_.push_back({std::move(prompt), words(" " + fact.answer)});
    }
}

std::vector<llama_token> ChatScript::words(const std::string& text) const {
    return tokenize(model_, text, /*add_bos=*/false, /*special=*/false);
}

Probe ChatScript::next() {
    std::string user, assistant;
    if (turns_ < statements_.size()) {
        user = "Please remember this: " + statements_[turns_];
        assistant = "I have noted it and will remember it.";
    } else {
        user = filler_sentence(rng_) + " What else happened?";
        for (int i = 0; i < kSentencesAnAnswer; ++i)
            assistant.append(i == 0 ? "" : " ").append(filler_sentence(rng_));
    }
    const bool is_first = turns_++ == 0;
    return {user_says(model_, user, is_first), words(assistant)};
}

} // namespace kvfold
