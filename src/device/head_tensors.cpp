#include "device/head_tensors.h"

#include "base/parallel.h"
#include "device/pursuit.h"
#include "solve/attention.h"
#include "solve/check_head.h"
#include "solve/omp.h"
#include "solve/refine.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <type_traits>

namespace kvfold::device {

namespace {

constexpr float kNoLogit = -1e6f; // of slots without a cell
constexpr Index kLeastBlock = 32; // fewer rows and each graph computes too little

Index block_of(const Backend& backend, const HeadSizes& of) {
    const Index block = std::max(kLeastBlock, backend.block_floats() / (of.padded_cells() * of.heads));
    return std::min(of.queries, block / kRegister * kRegister);
}

// The rows of one head, each float as a T.
template <class T> void pack_rows(const MatrixView& rows, T* to) {
    for (Index row = 0; row < rows.rows(); ++row) {
        if constexpr (std::is_same_v<T, ggml_fp16_t>)
            ggml_fp32_to_fp16_row(rows.row(row).data(), to + row * rows.cols(), rows.cols());
        else
            std::copy_n(rows.row(row).data(), rows.cols(), to + row * rows.cols());
    }
}

bool are_halves(const MatrixView& rows, const ggml_fp16_t* packed) {
    Vector unpacked(rows.cols());
    for (Index row = 0; row < rows.rows(); ++row) {
        ggml_fp16_to_fp32_row(packed + row * rows.cols(), unpacked.data(), rows.cols());
        if (unpacked.transpose() != rows.row(row)) return false;
    }
    return true;
}

// [h, rows, width]; false: halves do not hold them.
template <class T>
bool pack_cells(std::span<const HeadProblem> problems, MatrixView HeadProblem::*part, Index rows, int threads,
                std::vector<uint8_t>& packed) {
    const Index each = rows * (problems.front().*part).cols();
    packed.assign(problems.size() * static_cast<size_t>(each) * sizeof(T), 0);
    std::atomic<bool> is_exact = true;
    parallel_for(problems.size(), threads, [&](size_t i) {
        T* const of_head = reinterpret_cast<T*>(packed.data()) + static_cast<Index>(i) * each;
        pack_rows(problems[i].*part, of_head);
        if constexpr (std::is_same_v<T, ggml_fp16_t>) {
            if (!are_halves(problems[i].*part, of_head)) is_exact = false;
        }
        return is_exact.load();
    });
    return is_exact;
}

template <class T>
bool pack_cells(std::span<const HeadProblem> problems, Index rows, int threads, PackedHeads& packed) {
    return pack_cells<T>(problems, &HeadProblem::keys, rows, threads, packed.keys) &&
           pack_cells<T>(problems, &HeadProblem::values, rows, threads, packed.values);
}

// Some more than the processor looks at, to fill registers.
Index candidates_of(Index cells, Index kept, Index given) {
    return std::min(cells, HeadSizes::padded(pursuit_candidates(cells, kept, given)));
}

} // namespace

HeadSizes sizes_of(std::span<const HeadProblem> problems, const SolvePlan& plan,
                   const SolveRequest& request) {
    const HeadProblem& one = problems.front();
    // Products over other numbers of queries are several times as slow on a processor.
    const Index n = one.queries.rows() / kRegister * kRegister;
    const Index by_score = cells_by_score(plan.pursued, request);
    const bool pursues = by_score < request.kept;
    return {.heads = std::ssize(problems),
            .cells = one.keys.rows(),
            .queries = n,
            .key_width = one.keys.cols(),
            .value_width = one.values.cols(),
            .kept = request.kept,
            .candidates = pursues ? candidates_of(one.keys.rows(), request.kept, by_score) : 0,
            .step = pursues ? HeadSizes::padded(
                                  std::max(pursuit_step(request.kept), std::min(kLargestBlock, by_score)))
                            : 0,
            .batch = plan.refine_steps > 0 ? std::min(n, kRefineBatch) : 0,
            .is_weighted = !one.importance.empty(),
            .softcap = one.softcap};
}

Index HeadSizes::largest() const {
    return heads * std::max({candidates * candidates, queries * candidates, queries * slots(),
                             padded_cells() * std::max(key_width, value_width)});
}

size_t HeadSizes::floats(Index block_floats) const {
    const Index pursued = candidates * (queries + 4 * candidates + 2 * (1 + value_width) + 4 * step);
    const Index compact = slots() * (6 * queries + 3 * kept + 10 * (key_width + value_width));
    // Keys and values twice: as they are given too.
    const Index given =
        padded_cells() * (2 * (key_width + value_width) + 2) + queries * (key_width + value_width + 2);
    const Index steps = batch * (8 * kept + 4 * (key_width + value_width));
    return static_cast<size_t>(heads * (pursued + compact + given + steps) +
                               4 * std::max(block_floats, 32 * heads * padded_cells()));
}

HeadTensors::HeadTensors(Backend& on, const HeadSizes& of)
    : backend(on), sizes(of), block(block_of(on, of)), tensors(on) {
    const Index h = of.heads, T = of.padded_cells(), n = of.queries, d = of.key_width, dv = of.value_width;
    const Index t = of.kept, slots = of.slots(), M = of.candidates, s = of.step, b = of.batch;
    keys = tensors.floats(d, T, h);
    values = tensors.floats(T, dv, h);
    queries = tensors.floats(d, n, h);
    roots = of.is_weighted ? tensors.floats(1, n, h) : nullptr;
    no_cell = T > of.cells ? tensors.floats(T, block, 1) : nullptr;
    mass = tensors.floats(1, n, h);
    output = tensors.floats(dv, n, h);
    score = tensors.floats(T, 1, h);
    unit = tensors.floats(1, 1, h);
    kept = tensors.indices(t, h);
    weights = tensors.floats(slots, 1, h);
    no_slot = slots > t ? tensors.floats(slots, 1, 1) : nullptr;
    compact_keys = tensors.floats(d, slots, h);
    chosen = tensors.floats(slots, dv, h);
    fitted = tensors.floats(slots, dv, h);
    errors = tensors.floats(1, 1, h);
    mass_errors = tensors.floats(1, 1, h);
    if (M > 0) {
        candidates = tensors.indices(M, h);
        shares = tensors.floats(n, M, h);
        first_gram = tensors.floats(M, M, h);
        gram = tensors.floats(M, M, h);
        correlation = tensors.floats(M, 1 + dv, h);
        norms = tensors.floats(M, 1, h);
        gains = tensors.floats(M, 1, h);
        ridge = tensors.floats(1, 1, h);
        pool = tensors.indices(s, h);
        columns = tensors.floats(s, M, h);
        inner = tensors.floats(s, s, h);
        asked = tensors.floats(1 + dv, s, h);
        inverse = tensors.floats(s, s, h);
        targets = tensors.floats(s, 1 + dv, h);
    }
    if (b > 0) {
        batch = tensors.indices(b, h);
        first_of_register = tensors.floats(kRegister, slots, h);
        key_rate = tensors.floats(1, 1, h);
        value_rate = tensors.floats(1, 1, h);
        square_bias = tensors.floats(1, 1, 1);
        key_mean = tensors.floats(d, slots, h);
        key_square = tensors.floats(d, slots, h);
        value_mean = tensors.floats(slots, dv, h);
        value_square = tensors.floats(slots, dv, h);
    }
}

PackedHeads pack_heads(std::span<const HeadProblem> problems, const HeadSizes& of, int threads) {
    PackedHeads packed;
    packed.type = GGML_TYPE_F16;
    if (!pack_cells<ggml_fp16_t>(problems, of.padded_cells(), threads, packed)) {
        packed.type = GGML_TYPE_F32;
        pack_cells<float>(problems, of.padded_cells(), threads, packed);
    }
    const auto n = static_cast<size_t>(of.queries), width = static_cast<size_t>(of.key_width);
    packed.queries.resize(problems.size() * n * width);
    packed.roots.resize(of.is_weighted ? problems.size() * n : 0);
    parallel_for(problems.size(), threads, [&](size_t i) {
        const HeadProblem& one = problems[i];
        Eigen::Map<Matrix>(&packed.queries[i * n * width], of.queries, of.key_width) =
            one.scale * one.queries.topRows(of.queries);
        if (of.is_weighted)
            Eigen::Map<Vector>(&packed.roots[i * n], of.queries) =
                roots_of_importance(one.importance.first(n), of.queries);
        return true;
    });
    return packed;
}

Status upload(HeadTensors& held, const PackedHeads& packed, Index first) {
    const HeadSizes& of = held.sizes;
    const Index T = of.padded_cells();
    const auto write_heads = [&](const auto& all, Tensor tensor) {
        const size_t bytes = ggml_nbytes(tensor), each = bytes / static_cast<size_t>(of.heads);
        ggml_backend_tensor_set(
            tensor, reinterpret_cast<const uint8_t*>(all.data()) + static_cast<size_t>(first) * each, 0,
            bytes);
    };
    write_heads(packed.queries, held.queries);
    if (held.roots) write_heads(packed.roots, held.roots);
    Tensors given(held.backend);
    const Tensor keys = given.of_type(packed.type, of.key_width, T, of.heads);
    const Tensor values = given.of_type(packed.type, of.value_width, T, of.heads);
    KVFOLD_CHECK(given.allocate());
    write_heads(packed.keys, keys);
    write_heads(packed.values, values);
    {
        Graph graph(held.backend);
        graph.store(keys, held.keys);
        graph.store(graph.transposed(graph.floats(values)), held.values);
        KVFOLD_CHECK(graph.compute());
    }
    if (held.no_cell) {
        Matrix mask = Matrix::Zero(held.block, T);
        mask.rightCols(T - of.cells).setConstant(-std::numeric_limits<float>::infinity());
        write(held.no_cell, std::span(mask.data(), static_cast<size_t>(mask.size())));
    }
    if (of.batch > 0) {
        Matrix ones = Matrix::Zero(of.slots() * of.heads, kRegister);
        ones.col(0).setOnes();
        write(held.first_of_register, std::span(ones.data(), static_cast<size_t>(ones.size())));
    }
    if (held.no_slot) {
        Vector mask = Vector::Zero(of.slots());
        mask.tail(of.slots() - of.kept).setConstant(kNoLogit);
        write(held.no_slot, std::span(mask.data(), static_cast<size_t>(mask.size())));
    }
    return {};
}

void write_keys(HeadTensors& held, std::span<const Matrix> rows) {
    const HeadSizes& of = held.sizes;
    const auto each = static_cast<size_t>(of.slots() * of.key_width);
    std::vector<float> all(rows.size() * each);
    for (size_t i = 0; i < rows.size(); ++i)
        std::copy_n(rows[i].data(), rows[i].size(), &all[i * each]);
    write(held.compact_keys, all);
}

std::vector<Matrix> read_keys(const HeadTensors& held) {
    const HeadSizes& of = held.sizes;
    const std::vector<float> all = read(held.compact_keys);
    std::vector<Matrix> rows;
    for (Index head = 0; head < of.heads; ++head)
        rows.emplace_back(Eigen::Map<const Matrix>(
            &all[static_cast<size_t>(head * of.slots() * of.key_width)], of.kept, of.key_width));
    return rows;
}

void write_values(HeadTensors& held, Tensor place, std::span<const Matrix> rows) {
    const HeadSizes& of = held.sizes;
    const auto each = static_cast<size_t>(of.slots() * of.value_width);
    const std::vector<float> unit = read(held.unit);
    std::vector<float> all(rows.size() * each);
    for (size_t i = 0; i < rows.size(); ++i)
        Eigen::Map<Matrix>(&all[i * each], of.value_width, of.slots()).leftCols(of.kept) =
            rows[i].transpose() * unit[i];
    write(place, all);
}

std::vector<Matrix> read_values(const HeadTensors& held, Tensor place) {
    const HeadSizes& of = held.sizes;
    const std::vector<float> all = read(place), unit = read(held.unit);
    std::vector<Matrix> rows;
    for (Index head = 0; head < of.heads; ++head) {
        const Eigen::Map<const Matrix> transposed(
            &all[static_cast<size_t>(head * of.slots() * of.value_width)], of.value_width, of.slots());
        rows.emplace_back(transposed.leftCols(of.kept).transpose() / unit[static_cast<size_t>(head)]);
    }
    return rows;
}

} // namespace kvfold::device
