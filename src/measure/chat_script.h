// A conversation made up from a seed: what is pinned at its start is never mentioned again, and asked for
// throughout.
#pragma once

#include "measure/task.h"

#include <random>

namespace kvfold {

class ChatScript {
  public:
    ChatScript(const llama_model* model, uint64_t seed);

    // The next turn: prompt = the end of the turn before and what the user says, answer = what the assistant
    // replies. In the model's chat template when it has one. The first turns tell the pinned facts, one each.
    Probe next();

    // The pinned facts, asked behind a finished turn.
    const std::vector<Probe>& recall() const { return recall_; }

  private:
    std::vector<llama_token> words(const std::string& text) const;

    const llama_model* model_;
    std::mt19937_64 rng_;
    std::vector<std::string> statements_; // of the pinned facts
    std::vector<Probe> recall_;
    size_t turns_ = 0;
};

} // namespace kvfold
