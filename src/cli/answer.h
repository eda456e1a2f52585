// One question and its answer behind whatever the session holds.
#pragma once

#include "cli/session.h"

#include <memory>

namespace kvfold::cli {

struct SampleOptions {
    int max_tokens = 256;
    float temperature = 0; // 0 = always the most likely token
    uint32_t seed = 1;
};

// -n, --temp, --seed
void add_sample_options(CLI::App& command, SampleOptions& options);

enum class Stop { end_of_answer, length, context_full, interrupted };

// What a question takes beside its answer: itself and what the template puts around the two.
size_t cells_around_answer(const llama_model* model, const std::string& question);

// Puts the question behind the sequence (as a user turn of the model's chat template when it has one, else as
// "Question: ... Answer:"), streams the answer to standard output and closes the turn, so that another can
// follow, also after saving and loading. Fails with invalid_argument when the question does not fit.
Result<Stop> answer(Session& session, const std::string& question, const SampleOptions& options);

} // namespace kvfold::cli
