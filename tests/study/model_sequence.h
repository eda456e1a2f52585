// A sequence of a real model to study, and its queries cut by passage.
#pragma once

#include "model/probe.h"
#include "study/scratch.h"
#include "support/llama_fixture.h"
#include "support/snapshot.h"

namespace kvfold::testing {

struct StudiedModel {
    ModelPtr model;
    AttentionMap map;
};

inline StudiedModel studied_model(const char* variable) {
    StudiedModel studied{load_model(variable), {}};
    if (!studied.model) return studied;
    auto map = probe_attention(studied.model.get(), testing::one_thread());
    EXPECT_TRUE(map) << map.error().message;
    if (map) studied.map = *std::move(map);
    return studied;
}

inline ScratchParams scratch_params() {
    ScratchParams params{testing::one_thread()};
    params.threads = 1;
    params.spare_cells = 256;
    return params;
}

// Rows [first, first + count) of every layer.
inline std::vector<Matrix> rows_of(const Study& study, Index first, Index count) {
    std::vector<Matrix> rows;
    for (const LayerQueries& layer : study.layers)
        rows.push_back(layer.rows.middleRows(first, count));
    return rows;
}

// Largest over the layers of ||a - b|| / ||a||.
inline double worst_distance(const std::vector<Matrix>& a, const std::vector<Matrix>& b) {
    double worst = 0;
    for (size_t i = 0; i < a.size(); ++i)
        worst = std::max<double>(worst, (a[i] - b[i]).norm() / a[i].norm());
    return worst;
}

} // namespace kvfold::testing
