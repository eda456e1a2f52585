// Study: the reference queries of a region, asked in scratch contexts.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// The queries of all sources of problem.study, drafts included, asked of the full cache.
// Fails as Scratch::open and read_passages do.
Result<Study> study_region(const RegionProblem& problem);

// What the plan of its study is for: the tail is not folded, but asks and is asked like what is.
FoldSize fold_size(const Regions& regions);

// The passages of the sources, drafts excepted, and of problem.expected: the same for the same state of rng.
std::vector<Passage> passages_of_text(const RegionProblem& problem, std::mt19937_64& rng);

// Reads passages in a scratch context that holds `cache`, and returns their queries. Fails with
// invalid_argument when there are none: a method that studies the newest tokens, and they are an image.
Result<Study> read_in_scratch(const RegionProblem& problem, const SequenceState& cache,
                              const std::vector<Passage>& passages);

} // namespace kvfold
