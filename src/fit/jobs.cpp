#include "fit/jobs.h"

#include <algorithm>

namespace kvfold {

namespace {

// Heads that a device solves together, about: a device starts a kernel in the time that it takes for some
// heads, and layers of a few heads would wait for little else.
constexpr size_t kHeadsTogether = 32;

// Whether their heads can be solved together. All layers' keys are of one type, and scales may differ.
bool are_alike(const AttentionLayer& a, const AttentionLayer& b) {
    return a.heads == b.heads && a.kv_heads == b.kv_heads && a.readers == b.readers &&
           a.key_width == b.key_width && a.value_width == b.value_width && a.softcap == b.softcap;
}

} // namespace

size_t count_heads(const AttentionMap& map) {
    size_t heads = 0;
    for (const AttentionLayer& layer : map.layers)
        heads += static_cast<size_t>(layer.kv_heads);
    return heads;
}

std::vector<Job> list_jobs(const AttentionMap& map, SolveOn where, int threads) {
    const size_t each_thread = count_heads(map) / static_cast<size_t>(std::max(threads, 1));
    std::vector<Job> jobs;
    size_t index = 0;
    for (size_t i = 0; i < map.layers.size(); ++i) {
        const AttentionLayer& layer = map.layers[i];
        const ggml_backend_dev_t device = device::solving_device(where, layer.device);
        const Index each = device ? layer.kv_heads : 1;
        const size_t most = // a processor that is a device has a backend for every thread
            device && device::is_processor(device) ? std::min(kHeadsTogether, each_thread) : kHeadsTogether;
        for (Index head = 0; head < layer.kv_heads; head += each) {
            const bool joins = device && !jobs.empty() && jobs.back().device == device &&
                               are_alike(map.layers[jobs.back().layer], layer) &&
                               jobs.back().all_heads() + static_cast<size_t>(each) <= most;
            if (joins)
                ++jobs.back().layers;
            else
                jobs.push_back({i, 1, head, each, index, device});
            index += static_cast<size_t>(each);
        }
    }
    return jobs;
}

std::vector<Lane> lanes_of(const std::vector<Job>& jobs) {
    std::vector<Lane> lanes;
    for (const Job& job : jobs) {
        const auto is_its = [&](const Lane& lane) { return lane.front().device == job.device; };
        const auto lane = std::ranges::find_if(lanes, is_its);
        if (lane == lanes.end() || !job.device || device::is_processor(job.device))
            lanes.push_back({job});
        else
            lane->push_back(job);
    }
    std::ranges::stable_partition(lanes, [](const Lane& lane) { return lane.front().device != nullptr; });
    return lanes;
}

} // namespace kvfold
