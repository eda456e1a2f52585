// ggml as the stages of the solver use it: matrices of several heads, and a graph that is computed at once.
//
// ggml names the innermost dimension first. [k, m, h] below are h heads of m rows of k floats.
#pragma once

#include "device/backend.h"

#include <ggml.h>

#include <cstdint>
#include <span>
#include <vector>

namespace kvfold::device {

using Tensor = ggml_tensor*;

struct FreeContext {
    void operator()(ggml_context* context) const { ggml_free(context); }
};
using Context = std::unique_ptr<ggml_context, FreeContext>;

// Tensors that stay on the device from one graph to the next.
class Tensors {
  public:
    explicit Tensors(Backend& backend);
    ~Tensors();
    Tensors(const Tensors&) = delete;
    Tensors& operator=(const Tensors&) = delete;

    Tensor floats(Index n0, Index n1, Index n2) { return of_type(GGML_TYPE_F32, n0, n1, n2); }
    Tensor indices(Index n0, Index n1) { return of_type(GGML_TYPE_I32, n0, n1, 1); }
    Tensor of_type(ggml_type type, Index n0, Index n1, Index n2);

    Status allocate(); // all of the above; fails with memory

  private:
    Backend& backend_;
    Context context_;
    ggml_backend_buffer_t buffer_ = nullptr;
};

// All of a tensor, in the order of ggml.
void write(Tensor tensor, std::span<const float> values);
void write(Tensor tensor, std::span<const int32_t> values);
std::vector<float> read(Tensor tensor);
bool all_finite(std::span<const float> values);

// Nodes in the order in which they are made. While a graph is computed nobody else uses the backend's working
// memory, so that one graph is dropped before the next one is computed.
class Graph {
  public:
    explicit Graph(Backend& backend);

    // Contracts the innermost dimension: [k, m, h], [k, n, h] -> [m, n, h].
    Tensor product(Tensor a, Tensor b);
    Tensor floats(Tensor a);           // of halves
    Tensor transposed(Tensor a);       // [m, n, h] -> [n, m, h], copied
    Tensor rows(Tensor a, Tensor ids); // [k, m, h], [r, h] -> [k, r, h]

    // The second operand of these is repeated where a dimension of it is 1.
    Tensor add(Tensor a, Tensor b) { return ggml_add(context(), a, b); }
    Tensor subtract(Tensor a, Tensor b) { return ggml_sub(context(), a, b); }
    Tensor multiply(Tensor a, Tensor b) { return ggml_mul(context(), a, b); }
    Tensor divide(Tensor a, Tensor b) { return ggml_div(context(), a, b); }

    Tensor scale(Tensor a, float factor) { return ggml_scale(context(), a, factor); }
    Tensor clamp(Tensor a, float low, float high);
    Tensor exp(Tensor a) { return ggml_exp(context(), a); }
    Tensor log(Tensor a) { return ggml_log(context(), a); }
    Tensor tanh(Tensor a) { return ggml_tanh(context(), a); }
    Tensor square(Tensor a) { return ggml_sqr(context(), a); }
    Tensor root(Tensor a) { return ggml_sqrt(context(), a); }
    Tensor positive(Tensor a) { return ggml_relu(context(), a); }

    // [k, m, h], [l, m, h] -> [k + l, m, h]
    Tensor joined(Tensor a, Tensor b) { return ggml_concat(context(), a, b, 0); }
    Tensor filled(Tensor a, Index width, Index rows); // [k, m, h] -> [width, rows, h], the rest being 0

    Tensor sum_rows(Tensor a) { return ggml_sum_rows(context(), a); } // [k, m, h] -> [1, m, h]
    Tensor sum_columns(Tensor a);                                     // [k, m, h] -> [k, 1, h]
    Tensor sum_of_head(Tensor a);                                     // [k, m, h] -> [1, 1, h]
    Tensor diagonal(Tensor a);                                        // [k, k, h] -> [k, 1, h]
    Tensor shaped(Tensor a, Index n0, Index n1, Index n2) {
        return ggml_reshape_3d(context(), a, n0, n1, n2);
    }
    // Rows, or columns, `first` .. `first + count` of every head.
    Tensor some_rows(Tensor a, Index first, Index count);
    Tensor some_columns(Tensor a, Index first, Index count);

    ggml_context* context() const { return context_.get(); }

    // Keeps the values of a node in a tensor that stays.
    void store(Tensor node, Tensor place);

    // Computes all nodes that are stored, and may be called again. Fails with unsupported where the device
    // cannot compute a node, with memory, with cancelled, or with llama when ggml fails.
    Status compute();

  private:
    Tensor rounded(Tensor operand);

    Backend& backend_;
    Context context_;
    ggml_cgraph* graph_;
    bool is_allocated_ = false;
    Work work_; // of computing it once
};

} // namespace kvfold::device
