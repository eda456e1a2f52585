// Study: the reference queries of a region, asked in scratch contexts.
#pragma once

#include "engine/compact.h"
#include "study/probe.h"

namespace kvfold {

// The queries of all sources of request.method, drafts included, asked of the full cache.
// Fails as Scratch::open and read_passages do.
Result<Study> study_region(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                           const Regions& regions, const CompactRequest& request);

// The passages of the method's sources, drafts excepted, and request.expected: the same for the same state of
// rng.
std::vector<Passage> passages_of_text(const llama_model* model, const AttentionMap& map,
                                      const Regions& regions, const CompactRequest& request,
                                      std::mt19937_64& rng);

// Reads passages in a scratch context that holds `cache`, and returns their queries. Fails with
// invalid_argument when there are none: a method that studies the newest tokens, and they are an image.
Result<Study> read_in_scratch(llama_model* model, const AttentionMap& map, const SequenceState& cache,
                              const std::vector<Passage>& passages, const CompactRequest& request);

} // namespace kvfold
