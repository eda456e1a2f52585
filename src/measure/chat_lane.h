// One sequence that a conversation is fed to, folded when its cells get scarce or never.
#pragma once

#include "engine/policy.h"
#include "measure/evaluate.h"
#include "model/context.h"

namespace kvfold {

class ChatLane {
  public:
    // Room for `cells` cells and for a probe of `spare` tokens behind them.
    static Result<ChatLane> open(llama_model* model, const EvalCache& cache, const CompactRequest& compact,
                                 size_t cells, size_t spare);

    // From now on folds with the method when cells get scarce, by the rule of `kvfold serve`. archive_bytes:
    // as of its archive.
    void fold_with(const Method& method, double ratio, size_t archive_bytes);

    // The turn becomes part of the sequence. Logits as forced_answer.
    Result<Matrix> say(const Probe& turn);

    // What the sequence answers to each probe; it forgets them again.
    Result<std::vector<Matrix>> ask(const std::vector<Probe>& probes);

    // What it would answer had it been folded once, now, to `cells` cells, the `newest` as they are. It stays
    // as it is. REQUIRES: fewer than it has; the text is known.
    Result<std::vector<Matrix>> ask_folded(const std::vector<Probe>& probes, const Method& method,
                                           size_t cells, size_t newest);

    size_t tokens() const { return static_cast<size_t>(books_.end(0)); }
    size_t cells() const { return books_.cells(0); }
    size_t newest() const; // of them, those behind what is folded
    size_t bytes() const { return llama_state_seq_get_size(ctx_.get(), 0); }
    int folds() const { return folds_; }
    double study_s() const { return study_s_; } // of all folds
    double solve_s() const { return solve_s_; }
    double swap_s() const { return swap_s_; }
    std::optional<size_t> peak_extra_bytes() const { return peak_extra_bytes_; } // the largest of all folds

  private:
    ChatLane() = default;
    // Each on the state, which stays.
    Result<std::vector<Matrix>> ask_on(const SequenceState& state, const std::vector<Probe>& probes);
    Status make_room(size_t count);
    Status fold(const FoldPlan& plan);

    llama_model* model_ = nullptr;
    CompactRequest compact_;
    std::optional<Policy> policy_; // none: never folds
    size_t limit_ = 0;             // cells
    ContextPtr ctx_;
    Books books_; // of sequence 0
    Archive archive_{0};
    int folds_ = 0;
    double study_s_ = 0, solve_s_ = 0, swap_s_ = 0;
    std::optional<size_t> peak_extra_bytes_;
};

} // namespace kvfold
