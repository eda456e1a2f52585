// What is solved together, by which executor, and which jobs wait for each other.
#pragma once

#include "device/devices.h"
#include "model/probe.h"

#include <vector>

namespace kvfold {

// What is solved at once: a KV head on the processor, or all heads of some layers on a device.
struct Job {
    size_t layer, layers;      // the first, an index into AttentionMap::layers, and how many in a row
    Index head;                // the first
    Index heads;               // of each of these layers
    size_t index;              // of the first among all heads
    ggml_backend_dev_t device; // null: the processor

    size_t all_heads() const { return layers * static_cast<size_t>(heads); }
    // Of the i-th of all its heads.
    size_t layer_of(size_t i) const { return layer + i / static_cast<size_t>(heads); }
    Index head_of(size_t i) const { return head + static_cast<Index>(i) % heads; }
};

// In the order of the layers. threads: that solve.
std::vector<Job> list_jobs(const AttentionMap& map, SolveOn where, int threads);

// Jobs that one thread solves in their order: those of a device, which come first; else each has its own.
using Lane = std::vector<Job>;

std::vector<Lane> lanes_of(const std::vector<Job>& jobs);

size_t count_heads(const AttentionMap& map); // KV heads of all layers

} // namespace kvfold
