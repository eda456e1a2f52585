#include "device/graph.h"

#include "base/timer.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace kvfold::device {
namespace {

constexpr size_t kMostTensors = 64, kMostNodes = 4096;

Context new_context(size_t bytes) {
    Context context(ggml_init({bytes, nullptr, /*no_alloc=*/true}));
    if (!context) throw std::bad_alloc();
    return context;
}

void add_node(Work& work, const ggml_tensor* node) {
    const bool is_view = node->view_src && std::string_view(ggml_op_name(node->op)) != "CPY";
    if (is_view) return;
    ++work.nodes;
    const ggml_tensor *a = node->src[0], *b = node->src[1];
    if (std::string_view(ggml_op_name(node->op)) == "MUL_MAT") {
        work.product_flop += 2.0 * static_cast<double>(a->ne[0]) * static_cast<double>(ggml_nelements(node));
        return;
    }
    work.other_bytes += static_cast<double>(ggml_nbytes(node));
    if (a) work.other_bytes += static_cast<double>(std::min(ggml_nbytes(a), ggml_nbytes(node)));
    if (b) work.other_bytes += static_cast<double>(std::min(ggml_nbytes(b), ggml_nbytes(node)));
}

} // namespace

Tensors::Tensors(Backend& backend)
    : backend_(backend), context_(new_context(kMostTensors * ggml_tensor_overhead())) {}

Tensors::~Tensors() {
    if (buffer_) ggml_backend_buffer_free(buffer_);
}

Tensor Tensors::of_type(ggml_type type, Index n0, Index n1, Index n2) {
    return ggml_new_tensor_3d(context_.get(), type, n0, n1, n2);
}

Status Tensors::allocate() {
    buffer_ = ggml_backend_alloc_ctx_tensors(context_.get(), backend_.get());
    if (buffer_) return {};
    return fail(ErrorCode::memory, "{} has no memory left to solve on", backend_.description());
}

void write(Tensor tensor, std::span<const float> values) {
    ggml_backend_tensor_set(tensor, values.data(), 0, values.size_bytes());
}

void write(Tensor tensor, std::span<const int32_t> values) {
    ggml_backend_tensor_set(tensor, values.data(), 0, values.size_bytes());
}

std::vector<float> read(Tensor tensor) {
    std::vector<float> values(static_cast<size_t>(ggml_nelements(tensor)));
    ggml_backend_tensor_get(tensor, values.data(), 0, values.size() * sizeof(float));
    return values;
}

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

Graph::Graph(Backend& backend)
    : backend_(backend), context_(new_context(kMostNodes * ggml_tensor_overhead() +
                                              ggml_graph_overhead_custom(kMostNodes, /*grads=*/false))),
      graph_(ggml_new_graph_custom(context_.get(), kMostNodes, /*grads=*/false)) {}

// x + c - c with c = 2^13 x keeps the highest 11 bits of x, for x itself as for halves, but in the range of
// floats.
Tensor Graph::rounded(Tensor operand) {
    if (backend_.operands() != Operands::as_they_are && !ggml_is_contiguous(operand))
        operand = ggml_cont(context(), operand);
    switch (backend_.operands()) {
    case Operands::as_they_are:
        return operand;
    case Operands::eleven_bits: {
        const Tensor high = scale(operand, 8193); // 2^13 + 1
        return subtract(high, subtract(high, operand));
    }
    case Operands::halves:
        return ggml_cast(context(), ggml_cast(context(), operand, GGML_TYPE_F16), GGML_TYPE_F32);
    }
    return operand;
}

// Operands are floats, of which every backend makes sums of floats: no precision has to be asked for.
Tensor Graph::product(Tensor a, Tensor b) {
    const bool is_gram = a == b; // of one rounded array, so that it stays positive definite
    a = rounded(a);
    return ggml_mul_mat(context(), a, is_gram ? a : rounded(b));
}

Tensor Graph::floats(Tensor a) {
    return a->type == GGML_TYPE_F32 ? a : ggml_cast(context(), a, GGML_TYPE_F32);
}

Tensor Graph::transposed(Tensor a) { return ggml_cont(context(), ggml_transpose(context(), a)); }

Tensor Graph::rows(Tensor a, Tensor ids) { return ggml_get_rows(context(), a, ids); }

Tensor Graph::clamp(Tensor a, float low, float high) { return ggml_clamp(context(), a, low, high); }

Tensor Graph::filled(Tensor a, Index width, Index rows) {
    if (a->ne[0] == width && a->ne[1] == rows) return a;
    return ggml_pad(context(), a, static_cast<int>(width - a->ne[0]), static_cast<int>(rows - a->ne[1]), 0,
                    0);
}

// Halves are added as long as there are rows: every backend adds fast, and none sums columns.
Tensor Graph::sum_columns(Tensor a) {
    Tensor rest = nullptr;
    while (a->ne[1] > 1) {
        const Index half = a->ne[1] / 2;
        if (a->ne[1] % 2 == 1) {
            const Tensor last = some_rows(a, a->ne[1] - 1, 1);
            rest = rest ? add(last, rest) : last;
        }
        a = add(some_rows(a, 0, half), some_rows(a, half, half));
    }
    return rest ? add(a, rest) : a;
}

Tensor Graph::sum_of_head(Tensor a) { return sum_rows(shaped(a, a->ne[0] * a->ne[1], 1, a->ne[2])); }

Tensor Graph::diagonal(Tensor a) {
    const Tensor strided =
        ggml_view_3d(context(), a, 1, a->ne[0], a->ne[2], a->nb[1] + a->nb[0], a->nb[2], /*offset=*/0);
    return shaped(ggml_cont(context(), strided), a->ne[0], 1, a->ne[2]);
}

Tensor Graph::some_rows(Tensor a, Index first, Index count) {
    return ggml_view_3d(context(), a, a->ne[0], count, a->ne[2], a->nb[1], a->nb[2],
                        static_cast<size_t>(first) * a->nb[1]);
}

Tensor Graph::some_columns(Tensor a, Index first, Index count) {
    return ggml_view_3d(context(), a, count, a->ne[1], a->ne[2], a->nb[1], a->nb[2],
                        static_cast<size_t>(first) * a->nb[0]);
}

void Graph::store(Tensor node, Tensor place) {
    ggml_build_forward_expand(graph_, ggml_cpy(context(), node, place));
}

Status Graph::compute() {
    if (!is_allocated_) {
        for (int i = 0; i < ggml_graph_n_nodes(graph_); ++i) {
            const Tensor node = ggml_graph_node(graph_, i);
            if (!ggml_backend_supports_op(backend_.get(), node))
                return fail(ErrorCode::unsupported, "{} does not compute {}", backend_.description(),
                            ggml_op_desc(node));
            add_node(work_, node);
        }
        work_.graphs = 1;
        // Planned anew: a plan of another graph with as many nodes of no larger sizes would be taken for its
        // own.
        if (!ggml_gallocr_reserve(backend_.working_memory(), graph_) ||
            !ggml_gallocr_alloc_graph(backend_.working_memory(), graph_))
            return fail(ErrorCode::memory, "{} has no memory left to solve on", backend_.description());
        is_allocated_ = true;
    }
    if (!backend_.goes_on()) return fail(ErrorCode::cancelled, "cancelled");
    const Timer timer;
    if (ggml_backend_graph_compute(backend_.get(), graph_) != GGML_STATUS_SUCCESS)
        return fail(ErrorCode::llama, "ggml failed to compute on {}", backend_.description());
    work_.seconds = timer.seconds();
    backend_.add_work(work_);
    return {};
}

} // namespace kvfold::device
