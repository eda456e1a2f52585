// What happened in a context, in numbers: for metrics and the dashboard.
#pragma once

#include "base/json.h"
#include "base/timer.h"
#include "engine/compact.h"

#include <deque>
#include <string>

namespace kvfold::preload {

struct FoldRecord {
    llama_seq_id seq_id = 0;
    std::string method;
    llama_pos from = 0, to = 0; // positions of the region
    CompactReport report;       // cells and seconds; heads are taken out
    std::string error;          // empty = it was put in place
};

// Not thread-safe: the context's lock guards it.
class Journal {
  public:
    // A decode of `tokens` tokens ended. generation: one token a sequence, whose speed is worth a sample.
    // beside_a_fold: one is running, and takes some of the processors.
    void decoded(size_t tokens, double seconds, bool generation, bool beside_a_fold, size_t total_tokens,
                 size_t total_cells);
    void folded(FoldRecord record, size_t region_size);
    void waited(double seconds) {
        ++waits_, wait_s_ += seconds, longest_wait_s_ = std::max(longest_wait_s_, seconds);
    }
    void read_again() { ++rereads_; }
    void took_back() { ++taken_back_; }
    void recalled(double seconds) { ++recalls_, recall_s_ += seconds; }

    // "uptime_s", "totals", "history", "folds", and "kept": of the newest fold, null when there was none.
    Json state(size_t cells_used) const;

  private:
    Json totals(size_t cells_used) const;
    Json history() const;
    Json folds() const;
    struct Sample {
        double at = 0, tok_s = 0;
        size_t tokens = 0, cells = 0;
    };
    struct Entry {
        FoldRecord record;
        // Undisturbed: before it began, and of the first tokens behind it, while there are few cells.
        double at = 0, before_tok_s = 0, after_tok_s = 0;
        size_t tokens_after = 0; // that the second one is of
    };
    void sample_speed(double tok_s, bool beside_a_fold);

    Timer clock_;
    std::deque<Sample> samples_;
    std::deque<Entry> folds_;
    Json kept_;
    // Tokens/s of the newest generated tokens, smoothed: of all, and since the last fold of those that were
    // generated while none was running.
    double speed_ = 0, undisturbed_ = 0;
    size_t decoded_ = 0, done_ = 0, failures_ = 0, waits_ = 0, rereads_ = 0, taken_back_ = 0, recalls_ = 0;
    SolvedOn solved_on_; // of all folds
    double study_s_ = 0, solve_s_ = 0, swap_s_ = 0, wait_s_ = 0, longest_wait_s_ = 0, recall_s_ = 0;
};

} // namespace kvfold::preload
