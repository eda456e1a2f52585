#include "study/sources.h"

#include <algorithm>
#include <unordered_map>
#include <utility>

namespace kvfold {

namespace {

// Where each token, and each pair of tokens, is followed by another token.
class NgramModel {
  public:
    explicit NgramModel(TokenSpan context) : context_(context) {
        for (size_t i = 0; i + 1 < context.size(); ++i) {
            after_one_[context[i]].push_back(i + 1);
            if (i > 0) after_two_[pair_key(context[i - 1], context[i])].push_back(i + 1);
        }
    }

    llama_token next(llama_token before, llama_token last, std::mt19937_64& rng) const {
        const bool by_two = rng() % 2 == 0;
        if (by_two) {
            if (const auto found = after_two_.find(pair_key(before, last)); found != after_two_.end())
                return pick(found->second, rng);
        }
        if (const auto found = after_one_.find(last); found != after_one_.end())
            return pick(found->second, rng);
        return context_[rng() % context_.size()]; // the context's own last token: start anywhere
    }

  private:
    using Places = std::vector<size_t>;

    static uint64_t pair_key(llama_token a, llama_token b) {
        return (static_cast<uint64_t>(static_cast<uint32_t>(a)) << 32) | static_cast<uint32_t>(b);
    }
    llama_token pick(const Places& places, std::mt19937_64& rng) const {
        return context_[places[rng() % places.size()]];
    }

    TokenSpan context_;
    std::unordered_map<llama_token, Places> after_one_;
    std::unordered_map<uint64_t, Places> after_two_;
};

} // namespace

std::vector<Passage> pseudo_passages(TokenSpan text, llama_pos behind, size_t count, std::mt19937_64& rng) {
    const NgramModel model(text);
    std::vector<Passage> passages;
    for (size_t done = 0; done < count; done += kPassage) {
        Passage passage{{}, behind};
        llama_token before = 0, last = text[rng() % text.size()];
        for (size_t i = 0; i < std::min(kPassage, count - done); ++i) {
            const llama_token next = model.next(before, last, rng);
            passage.tokens.push_back(next);
            before = std::exchange(last, next);
        }
        passages.push_back(std::move(passage));
    }
    return passages;
}

} // namespace kvfold
