// What answers cost with one cache, against those of another in full.
#pragma once

#include "base/matrix.h"

#include <llama.h>

#include <span>

namespace kvfold {

struct Score {
    size_t tokens = 0, answers = 0;
    double kl = 0;       // mean KL(full || compact) of the next token over the answers' tokens, nats
    double top1 = 0;     // share of tokens where both find the same token most likely
    double nll = 0;      // mean negative log-likelihood of an answer's token, nats
    double nll_full = 0; // the same with the full cache
    double exact = 0;    // share of answers whose every token is the most likely one, teacher-forced
    double exact_full = 0;
    double written =
        0; // what a judge says of the answers that the cache writes by itself, mean; 0 without one
    double written_full = 0;
    double dnll() const { return nll - nll_full; }
};

// One answer. full, compact: [answer, vocabulary], row i: the logits that predict answer[i].
Score score_answer(const Matrix& full, const Matrix& compact, std::span<const llama_token> answer);

// Of all answers together: means over tokens weigh tokens, shares of answers weigh answers.
Score pool(std::span<const Score> scores);

} // namespace kvfold
