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

// Newest tokens of a text, at most, whose queries are worth keeping while it is read: a study asks for no
// more of one source.
inline constexpr size_t kMostHeard = 768;

// Reads a text batch by batch, and hears what its newest tokens ask.
class Hearing {
  public:
    // tokens: of the text. The place and the layers must outlive this.
    Hearing(TapPlace& place, const std::vector<AttentionLayer>& layers, size_t tokens)
        : place_(place), layers_(layers), left_(tokens) {}

    // The next `count` tokens of the text, which `decode` decodes. Fails as it does.
    Status read(size_t count, const std::function<Status()>& decode);

    // The queries of the newest tokens: whole batches, as many as reach kMostHeard.
    Study take() { return std::move(heard_); }

  private:
    TapPlace& place_;
    const std::vector<AttentionLayer>& layers_;
    size_t left_;
    Study heard_;
};

} // namespace kvfold
