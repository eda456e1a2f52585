// The reference queries of a study, tapped at the model's attention nodes.
#pragma once

#include "base/matrix.h"

#include <span>
#include <vector>

namespace kvfold {

// The queries to one layer's cache: row token * readers + reader, the heads side by side.
struct LayerQueries {
    Matrix rows; // [tokens * readers, heads * d]
    Index readers = 1;
};

// The reference queries of a study, layer by layer in the order of AttentionMap::layers.
struct Study {
    std::vector<LayerQueries> layers;
    std::vector<float> importance = {}; // [tokens] of a token's queries (solve/head.h); empty: all alike
    Index tokens() const { return layers.empty() ? 0 : layers.front().rows.rows() / layers.front().readers; }
};

// Those of some of its tokens, in the order given.
Study queries_of_tokens(const Study& study, std::span<const Index> tokens);

} // namespace kvfold
