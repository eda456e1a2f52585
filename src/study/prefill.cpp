#include "study/sources.h"

namespace kvfold {

std::vector<Passage> prefill_passages(TokenSpan context) { return {{{context.begin(), context.end()}, 0}}; }

} // namespace kvfold
