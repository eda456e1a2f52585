#include "engine/scan_archive.h"

#include "fit/solve_layers.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <numeric>

namespace kvfold {

namespace {

constexpr size_t kShare = 4; // of the blocks of a long archive at least one in so many is read

// Of one source, those of its cells that are looked at: places in Recallable::cells, rising.
using Places = std::vector<uint32_t>;

// Keys of one head where they lie, or as floats: of quantised caches only ggml reads the blocks.
class HeadKeys {
  public:
    HeadKeys(const RecallProblem& problem, size_t layer, Index head)
        : layer_(problem.map.layers[layer]), first_(head * layer_.key_width) {}

    void add_places(const Recallable& source, const Places& places) {
        std::vector<uint32_t>& cells = cells_.emplace_back();
        for (const uint32_t place : places)
            cells.push_back(source.cells[place]);
        add(source, cells);
    }

    // cells: of the source's originals. They must outlive this.
    void add(const Recallable& source, std::span<const uint32_t> cells) {
        const CacheTensor& tensor = source.originals.keys[layer_.cache];
        if (tensor.type == GGML_TYPE_F16 && !tensor.transposed) {
            const auto before = static_cast<size_t>(first_) * sizeof(uint16_t);
            rows_.push_back({tensor.bytes.data() + before, tensor.row_bytes(), true, cells});
            return;
        }
        const Matrix& floats = floats_.emplace_back(head_to_float(tensor, cells, first_, layer_.key_width));
        std::vector<uint32_t>& rows = cells_.emplace_back(cells.size());
        std::iota(rows.begin(), rows.end(), 0u);
        rows_.push_back({reinterpret_cast<const uint8_t*>(floats.data()),
                         static_cast<size_t>(floats.cols()) * sizeof(float), false, rows});
    }

    std::span<const KeyRows> rows() const { return rows_; }

  private:
    const AttentionLayer& layer_;
    Index first_;
    std::deque<std::vector<uint32_t>> cells_;
    std::deque<Matrix> floats_;
    std::vector<KeyRows> rows_;
};

// The blocks of all sources that are read, and what the queries are expected to see elsewhere.
struct Chosen {
    std::vector<bool> blocks;
    Vector elsewhere; // [n]
};

Chosen choose_blocks(const BlockAttention& attention, size_t count) {
    std::vector<uint32_t> order(static_cast<size_t>(attention.highest.size()));
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::nth_element(
        order, order.begin() + static_cast<std::ptrdiff_t>(count), [&](uint32_t a, uint32_t b) {
            return attention.highest[a] != attention.highest[b] ? attention.highest[a] > attention.highest[b]
                                                                : a < b;
        });
    Chosen chosen{std::vector<bool>(order.size()), Vector(attention.masses.rows())};
    for (size_t i = 0; i < count; ++i)
        chosen.blocks[order[i]] = true;
    const std::vector<uint32_t> others(order.begin() + static_cast<std::ptrdiff_t>(count), order.end());
    for (Index i = 0; i < attention.masses.rows(); ++i) {
        Eigen::ArrayXf masses(std::ssize(others));
        for (Index other = 0; other < masses.size(); ++other)
            masses[other] = attention.masses(i, others[static_cast<size_t>(other)]);
        const float highest = masses.maxCoeff();
        chosen.elsewhere[i] = highest + std::log((masses - highest).exp().sum());
    }
    return chosen;
}

// The places of a source's blocks; first: the number of its first one among those of all sources.
Places places_in(const Recallable& source, const std::vector<bool>& blocks, size_t first) {
    Places places;
    constexpr auto kCells = static_cast<uint32_t>(KeyBlocks::kCells);
    for (uint32_t place = 0; place < source.cells.size(); ++place) {
        if (blocks[first + place / kCells]) places.push_back(place);
    }
    return places;
}

size_t count_blocks(const Recallable& source) {
    constexpr auto kCells = static_cast<size_t>(KeyBlocks::kCells);
    return (source.cells.size() + kCells - 1) / kCells;
}

Vector sizes_of_blocks(const Recallable& source) {
    constexpr auto kCells = static_cast<size_t>(KeyBlocks::kCells);
    Vector sizes = Vector::Constant(static_cast<Index>(count_blocks(source)), KeyBlocks::kCells);
    if (const size_t last = source.cells.size() % kCells) sizes[sizes.size() - 1] = static_cast<float>(last);
    return sizes;
}

// Empty: all of them are read.
Chosen blocks_to_read(const RecallProblem& problem, size_t layer, Index head, const Matrix& queries) {
    size_t blocks = 0;
    for (const Recallable& source : problem.sources) {
        if (!source.blocks) return {};
        blocks += count_blocks(source);
    }
    const size_t read = std::max(problem.blocks_per_cell * problem.count, blocks / kShare);
    if (2 * read > blocks) return {};
    std::deque<Vector> sizes;
    std::vector<KeyBlocksView> views;
    for (const Recallable& source : problem.sources) {
        const KeyBlocks::Head& of_head = source.blocks->heads[layer][static_cast<size_t>(head)];
        views.push_back({of_head.means, of_head.variances, sizes.emplace_back(sizes_of_blocks(source))});
    }
    const AttentionLayer& map = problem.map.layers[layer];
    return choose_blocks(problem.kernels.expected_attention(views, queries, map.scale, map.softcap), read);
}

} // namespace

Vector scan_archive(const RecallProblem& problem, size_t layer, Index head) {
    const Matrix queries =
        queries_of_head(problem.asked, problem.map, layer, head, std::numeric_limits<Index>::max());
    const Chosen chosen = blocks_to_read(problem, layer, head, queries);
    const AttentionLayer& map = problem.map.layers[layer];
    HeadKeys keys(problem, layer, head);
    const auto seen_in = [&] {
        return problem.kernels.highest_attention(
            {keys.rows(), queries, map.scale, map.softcap, chosen.elsewhere});
    };
    if (chosen.blocks.empty()) {
        for (const Recallable& source : problem.sources)
            keys.add(source, source.cells);
        return seen_in();
    }
    std::vector<Index> looked_at; // among all cells
    Index before = 0;
    size_t blocks = 0;
    for (const Recallable& source : problem.sources) {
        const Places places = places_in(source, chosen.blocks, blocks);
        keys.add_places(source, places);
        for (const uint32_t place : places)
            looked_at.push_back(before + place);
        before += std::ssize(source.cells);
        blocks += count_blocks(source);
    }
    const Vector seen = seen_in();
    Vector scores = Vector::Zero(before);
    for (Index i = 0; i < seen.size(); ++i)
        scores[looked_at[static_cast<size_t>(i)]] = seen[i];
    return scores;
}

} // namespace kvfold
