// The suite: tasks over several texts, offsets and seeds, and their means with the spread.
#pragma once

#include "measure/evaluate.h"

namespace kvfold {

struct SuiteText {
    std::string name;
    std::vector<llama_token> tokens; // with the model's own first token when it wants one
};

struct SuiteRequest {
    std::vector<const TaskKind*> kinds;
    std::vector<SuiteText> texts;      // none when no task reads one
    std::vector<size_t> offsets = {0}; // tokens of each text that are skipped
    std::vector<uint64_t> seeds = {1}; // of the study, and of what tasks make up
    size_t context = 2048;             // tokens that are prefilled and compacted
    EvalRequest eval;                  // compact.seed is set run by run
};

struct SuiteRow {
    std::string text; // empty: the task makes up its own
    size_t offset = 0;
    uint64_t seed = 1;
    EvalRow row;
};

// Every task on every text, offset and seed; tasks that make up their text on every seed. Tasks of one text,
// offset and seed share prefill and compaction. All tasks are made before the first of them runs. Fails with
// invalid_argument when a text is too short or a chat is to have hindsight, else as evaluate.
Result<std::vector<SuiteRow>> run_suite(llama_model* model, const SuiteRequest& request);

struct SummaryRow {
    EvalRow mean; // scores pooled, seconds and bytes averaged; without regions and heads
    size_t runs = 0;
    double kl_min = 0, kl_max = 0, kl_geomean = 0;
};

// One row for each task, cache, method and ratio, in the order in which they first come.
std::vector<SummaryRow> summarize(std::span<const SuiteRow> rows);

} // namespace kvfold
