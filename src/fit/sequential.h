// Layer after layer: each group of layers is studied with the groups before it compact already, so that its
// queries are those that a compact cache will make the model ask (arXiv 2602.16284).
#pragma once

#include "fit/fit.h"

namespace kvfold {

inline constexpr size_t kLayerGroups = 4; // all passages are read once for each

// Study and solve by groups of layers. All layers share the cells of a cache, and those that come later must
// still be full. So a compact head stands in the scratch context in the cells that its rows came from, and
// its other cells are neutral (solve/neutral.h). A head whose queries allow no neutral key stays full there;
// it is folded all the same. Reports "heads left full". REQUIRES: a study without drafts. Fails as
// study_region and solve_layers do.
Result<Fitted> fit_sequentially(const RegionProblem& problem);

} // namespace kvfold
