#include "engine/ask.h"

#include "study/listen.h"

#include <algorithm>

namespace kvfold {

std::vector<Index> asking_tokens(size_t heard) {
    const size_t newest = std::min(heard, kAskingOfPrompt / 2), before = heard - newest;
    const size_t some = std::min(before, kAskingOfPrompt - newest);
    std::vector<Index> tokens;
    for (size_t i = 0; i < some; ++i)
        tokens.push_back(static_cast<Index>(i * before / some));
    for (size_t token = before; token < heard; ++token)
        tokens.push_back(static_cast<Index>(token));
    return tokens;
}

Study asked_by(const Study& heard) {
    return queries_of_tokens(heard, asking_tokens(static_cast<size_t>(heard.tokens())));
}

Result<Study> ask_while_reading(TapPlace& tap, const std::vector<AttentionLayer>& layers, TokenSpan prompt,
                                const std::function<Status(TokenSpan)>& read) {
    const size_t heard = std::min(prompt.size(), kHeardOfPrompt);
    if (heard < prompt.size()) {
        KVFOLD_CHECK(read(prompt.first(prompt.size() - heard)));
    }
    KVFOLD_TRY(const Study all,
               listen(tap, layers, static_cast<Index>(heard), [&] { return read(prompt.last(heard)); }));
    return asked_by(all);
}

} // namespace kvfold
