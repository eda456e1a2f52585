// What a sequence answers by itself: the most likely token, again and again.
#pragma once

#include "base/matrix.h"
#include "measure/task.h"

#include <functional>

namespace kvfold {

// Reads one more token: the logits behind it, [1, vocabulary].
using ReadToken = std::function<Result<Matrix>(llama_token)>;

// How many tokens may be written, end or no end: those of the right answer, and some words around it.
size_t most_written(const Probe& probe);

// What is written behind the probe's prompt, whose last token is still to be read, up to the end of the line
// or of the model's turn. Fails as `read`.
Result<std::string> write_answer(const llama_model* model, const Probe& probe, const ReadToken& read);

// The same behind `first_pos` tokens of sequence 0, which it reads the prompt into. Fails as decode_tokens.
Result<std::string> written_answer(llama_context* ctx, const Probe& probe, size_t first_pos);

} // namespace kvfold
