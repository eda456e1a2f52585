#include "fit/jobs.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

// Layers of `kv_heads` KV heads of two query heads each.
AttentionMap layers_of(std::vector<Index> kv_heads) {
    AttentionMap map;
    for (const Index heads : kv_heads) {
        AttentionLayer layer;
        layer.layer = static_cast<int>(map.layers.size());
        layer.heads = 2 * heads;
        layer.kv_heads = heads;
        layer.key_width = layer.value_width = 64;
        map.layers.push_back(layer);
    }
    return map;
}

// {first layer, layers} of each job.
std::vector<std::pair<size_t, size_t>> layers_of_jobs(const AttentionMap& map, int threads) {
    std::vector<std::pair<size_t, size_t>> layers;
    size_t heads = 0;
    for (const Job& job : list_jobs(map, SolveOn::device, threads)) {
        EXPECT_EQ(job.index, heads);
        EXPECT_EQ(job.heads, map.layers[job.layer].kv_heads);
        heads += job.all_heads();
        layers.emplace_back(job.layer, job.layers);
    }
    EXPECT_EQ(heads, count_heads(map));
    return layers;
}

using Layers = std::vector<std::pair<size_t, size_t>>;

TEST(Jobs, ADeviceTakesLayersInARowAsFarAs32HeadsGo) {
    EXPECT_EQ(layers_of_jobs(layers_of({8, 8, 8, 8, 8, 8}), 1), Layers({{0, 4}, {4, 2}}));
    EXPECT_EQ(layers_of_jobs(layers_of(std::vector<Index>(30, 3)), 1), Layers({{0, 10}, {10, 10}, {20, 10}}));
    EXPECT_EQ(layers_of_jobs(layers_of({40, 40}), 1), Layers({{0, 1}, {1, 1}}));
    EXPECT_EQ(layers_of_jobs(layers_of({8, 8, 8, 8}), 2),
              Layers({{0, 2}, {2, 2}})); // each thread has its share
}

TEST(Jobs, OnlyLayersThatAreAlikeAreTakenTogether) {
    EXPECT_EQ(layers_of_jobs(layers_of({2, 2, 4, 2}), 1), Layers({{0, 2}, {2, 1}, {3, 1}}));
    const auto with = [](auto change) {
        AttentionMap map = layers_of({2, 2, 2});
        change(map.layers[1]);
        return layers_of_jobs(map, 1);
    };
    const Layers apart{{0, 1}, {1, 1}, {2, 1}};
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.heads = 8; }), apart);
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.readers = 2; }), apart);
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.key_width = 32; }), apart);
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.value_width = 32; }), apart);
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.softcap = 30; }), apart);
    EXPECT_EQ(with([](AttentionLayer& layer) { layer.scale = 0.5f; }), Layers({{0, 3}}));
}

TEST(Jobs, TheProcessorSolvesHeadByHead) {
    const auto jobs = list_jobs(layers_of({2, 3}), SolveOn::processor, 4);
    ASSERT_EQ(jobs.size(), 5u);
    for (size_t i = 0; i < jobs.size(); ++i) {
        EXPECT_EQ(jobs[i].index, i);
        EXPECT_EQ(jobs[i].layer, i < 2 ? 0u : 1u);
        EXPECT_EQ(jobs[i].head, static_cast<Index>(i < 2 ? i : i - 2));
        EXPECT_EQ(jobs[i].all_heads(), 1u);
        EXPECT_EQ(jobs[i].device, nullptr);
    }
    EXPECT_EQ(lanes_of(jobs).size(), 5u); // none waits for another
}

} // namespace
} // namespace kvfold
