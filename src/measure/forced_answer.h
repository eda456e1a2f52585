// Teacher-forcing: what a sequence predicts while it is fed a given answer.
#pragma once

#include "base/matrix.h"
#include "measure/task.h"

namespace kvfold {

// Decodes the probe at `first_pos` behind sequence 0. Row i of the result: the logits that predict answer[i],
// [answer, vocabulary]. The answer's last token is not decoded: nothing depends on it.
// REQUIRES: an answer of at most n_batch tokens. Fails as decode_tokens.
Result<Matrix> forced_answer(llama_context* ctx, const Probe& probe, size_t first_pos);

// What is decoded for the logits that predict the answer: a token for each of its tokens.
std::vector<llama_token> predicting_tokens(const Probe& probe);

// Of the newest batch, whose `count` tokens all have outputs: [count, vocabulary].
Matrix newest_logits(llama_context* ctx, size_t count);

} // namespace kvfold
