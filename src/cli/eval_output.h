// What eval shows: tables for people and the JSON document.
#pragma once

#include "cli/output.h"
#include "measure/suite.h"

namespace kvfold::cli {

// A block a task, at most 120 columns wide.
void print_summary(FILE* out, std::span<const SummaryRow> summary);

// "noise_floor_kl", "rows" and "runs"; the caller adds what describes the command.
OrderedJson eval_json(std::span<const SummaryRow> summary, std::span<const SuiteRow> runs);

} // namespace kvfold::cli
