// What tokens ask for: their queries, taken while they are decoded.
#pragma once

#include "base/result.h"
#include "study/query_tap.h"

#include <functional>

namespace kvfold {

// The queries of what `decode` decodes in a context whose callback is TapPlace's. capacity: tokens, at most.
// Fails as `decode` does.
Result<Study> listen(TapPlace& place, const std::vector<AttentionLayer>& layers, Index capacity,
                     const std::function<Status()>& decode);

} // namespace kvfold
