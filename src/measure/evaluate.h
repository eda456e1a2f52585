// Quality of compact caches: how far their answers to the probes of tasks are from those of the full cache.
#pragma once

#include "engine/compact.h"
#include "engine/recall.h"
#include "measure/judge.h"
#include "measure/score.h"
#include "measure/task.h"

#include <optional>

namespace kvfold {

// A cache to measure. The first of a request is the one that all are compared with.
struct EvalCache {
    std::string name; // for the reader
    ggml_type type_k = GGML_TYPE_F16, type_v = GGML_TYPE_F16;
};

struct DepthScore {
    double depth = 0; // 0..1
    Score score;
};

// One of the stretches into which a growing conversation is cut; see chat.h.
struct RoundScore {
    int round = 1;
    double cells = 0, cells_full = 0; // when it ends; counts, which summaries average
    double folds = 0;                 // in it
    Score speech = {};                // of what the assistant said: kl, top1
    Score recall = {};                // of what was pinned at the start: kl, nll, exact
    Score once = {};                  // the same, had all been folded once, now, to as many cells
};

struct EvalRow {
    std::string task = {};
    std::string cache = {};
    std::string method = {}; // kFullCache or kNoiseFloor where nothing was compacted
    double asked_ratio = 1;  // of the request; rows of one kind share it, whatever cells each has
    double ratio = 1;        // bytes of a cell x cells, of the first cache in full / of this one
    CompactReport report = {};
    std::optional<size_t> peak_extra_bytes = {}; // of the compaction, beyond what was resident before
    double prefill_s = 0;
    Score score = {};
    std::vector<DepthScore> by_depth = {}; // probe by probe, of tasks that ask by depth
    std::vector<RoundScore> rounds = {};   // of the chat task
    const Judge* judge = nullptr;          // of Score::written; null: nothing is written
};

inline constexpr std::string_view kFullCache = "full"; // the cost of the cache's type alone
// The first cache with its cells in another order: what reading a cache back costs already.
inline constexpr std::string_view kNoiseFloor = "noise floor";

// What methods study beside their own sources, to see what better queries could give.
enum class Hindsight : uint8_t {
    none,
    judged, // what is judged: a bound for the cells and the fit
    later,  // the text behind it: a bound for guessing what comes
};

struct EvalRequest {
    std::vector<EvalCache> caches = {{"f16"}};
    std::vector<double> ratios = {8}; // of bytes against the first cache: caches of all types cost the same
    std::vector<const Method*> methods;
    Hindsight hindsight = Hindsight::none;
    // Cells of each KV head that a probe recalls from what was folded, one row each; 0: none.
    std::vector<size_t> recalls = {0};
    size_t recall_every = AskingPace::kEvery; // of an answer, which asks; 0: the prompt alone asks
    size_t rounds = 12;                       // of the chat task
    size_t archive_bytes =
        0; // of each of its caches, for the cells that folds replace; 0: folded cells are folded again
    const SequenceState* full =
        nullptr;            // of the first cache, when the context was read before; null = it is read
    CompactRequest compact; // method, ratio, tokens, and of `context` sizes and types are set row by row;
                            // expected: by hindsight
    std::function<void(std::string_view)> step; // what is done now
};

// Fails with invalid_argument where hindsight would change nothing: for a method that studies no text, and
// for tasks behind which no text goes on.
Status check_hindsight(std::span<const Task> tasks, const EvalRequest& request);

// How many times fewer bytes a cell takes in each cache of the request than in the first. Fails with
// invalid_argument when one of them takes fewer than a ratio asks for without being compacted.
Result<std::vector<double>> savings_of_types(llama_model* model, const EvalRequest& request);

// Prefills a context of each cache's type, or puts request.full into it, then for every ratio and method:
// compacts once, asks all probes of all tasks, has answers written where a task has a judge, compares with
// the first cache in full, and puts the full cache back. Rows: the noise floor of every task first, then
// compaction by compaction; caches behind the first have rows kFullCache too. What cannot work is refused
// before the prefill. Memory: one context at a time, two sets of logits, answers x vocabulary floats each.
// REQUIRES: caches; tasks that all have the same context, whose cells request.full has. Fails as
// compact_sequence.
Result<std::vector<EvalRow>> evaluate(llama_model* model, std::span<const Task> tasks,
                                      const EvalRequest& request);

} // namespace kvfold
