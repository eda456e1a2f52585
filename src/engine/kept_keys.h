// Which originals' keys a fold kept, head by head: what they say stands there, and recall counts them less.
#pragma once

#include "fit/fit.h"

namespace kvfold {

// Positions, rising, of each KV head, layer by layer as a report has them; none: not known.
using KeptKeys = std::vector<std::vector<int32_t>>;

// Of a fold whose region had these positions. older: of what was folded before and stays as it is.
KeptKeys kept_keys(std::span<const HeadReport> heads, std::span<const int32_t> positions,
                   const KeptKeys& older = {});

} // namespace kvfold
