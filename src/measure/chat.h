// The task chat: one conversation that grows and is folded again and again, by the rule and with the code of
// `kvfold serve`, beside a twin that is fed the same tokens and never folded.
#pragma once

#include "measure/evaluate.h"

namespace kvfold {

// The conversation lives in a quarter of `context` cells, as under `kvfold serve --virtual 4 -c CONTEXT`. It
// is judged in rounds of a sixth of `context` tokens; twelve rounds are ten folds and more. Judged are KL and
// top-1 over what the assistant said, nll and exact over the recall of facts told in the first turns, asked
// at the end of each round and forgotten again. All caches, methods and ratios of the request run side by
// side. A row's times are sums over its folds. Fails as check_chat and compact_sequence.
Result<std::vector<EvalRow>> evaluate_chat(llama_model* model, size_t context, const EvalRequest& request);

// Whether the task can be done with contexts of this size and so many rounds: fails with invalid_argument
// when they are too small for the turns, or the model was not trained for such a length.
Status check_chat(const llama_model* model, size_t context, size_t rounds);

} // namespace kvfold
