// What a prompt's queries look at in the archive, in two levels: the blocks of keys that may have it, and
// their keys.
#pragma once

#include "engine/recall.h"

namespace kvfold {

// [cells of all sources] the highest probability that any query of one KV head gives each cell; 0 where the
// cell was not looked at. All are, where a source has no blocks or most blocks would be. layer: index into
// map.layers. Not finite where a key or a query is not.
Vector scan_archive(const RecallProblem& problem, size_t layer, Index head);

} // namespace kvfold
