#include "engine/key_blocks.h"

#include <algorithm>

namespace kvfold {

namespace {

KeyBlocks::Head block_head(const Matrix& keys) {
    const Index blocks = (keys.rows() + KeyBlocks::kCells - 1) / KeyBlocks::kCells;
    KeyBlocks::Head head{Matrix(blocks, keys.cols()), Matrix(blocks, keys.cols())};
    for (Index block = 0; block < blocks; ++block) {
        const Index first = block * KeyBlocks::kCells;
        const auto rows = keys.middleRows(first, std::min(KeyBlocks::kCells, keys.rows() - first));
        head.means.row(block) = rows.colwise().mean();
        head.variances.row(block) =
            (rows.rowwise() - head.means.row(block)).array().square().colwise().mean();
    }
    return head;
}

} // namespace

size_t KeyBlocks::bytes() const {
    size_t floats = 0;
    for (const auto& layer : heads)
        for (const Head& head : layer)
            floats += static_cast<size_t>(head.means.size() + head.variances.size());
    return floats * sizeof(float);
}

KeyBlocks block_keys(const AttentionMap& map, const KvSection& section, std::span<const uint32_t> cells) {
    KeyBlocks blocks;
    for (const AttentionLayer& layer : map.layers) {
        auto& heads = blocks.heads.emplace_back();
        for (Index head = 0; head < layer.kv_heads; ++head)
            heads.push_back(block_head(
                head_to_float(section.keys[layer.cache], cells, head * layer.key_width, layer.key_width)));
    }
    return blocks;
}

} // namespace kvfold
