// The tap: a cb_eval callback that copies the queries of chosen layers out of the attention nodes.
#pragma once

#include "base/no_throw.h"
#include "model/attention_layer.h"
#include "study/queries.h"

#include <ggml.h>

#include <vector>

namespace kvfold {

// Copies the queries of one evaluation into rows [*, heads * d]: token i into row i * step. Returns the
// tokens. REQUIRES: room for them. ggml: q ne = [d, tokens, heads], f32, any strides.
Index read_queries(const ggml_tensor* node, Index step, MutableMatrixView rows);

// Fills a Study of a known number of tokens, appending at each evaluation while it is open. Declines every
// other node, so that nothing else is slowed down, and never changes one: llama.cpp reuses its graph.
class QueryTap {
  public:
    // layers: those whose queries are wanted. capacity: tokens that all calls together may deliver.
    QueryTap(const std::vector<AttentionLayer>& layers, Index capacity);

    void open(bool is_open) { open_ = is_open; }
    Index tokens_filled() const; // read by every layer

    // Throws what reading queries threw, which would otherwise have crossed llama.cpp.
    void rethrow() { kept_.rethrow(); }

    // The study so far, shrunk to the tokens that were read. From then on the tap declines everything.
    Study take();

    // For llama_context_params: cb_eval = QueryTap::callback, cb_eval_user_data = the tap.
    static bool callback(ggml_tensor* node, bool ask, void* tap);

  private:
    struct Filled {
        Index tokens = 0; // that all readers have delivered
        Index reader = 0; // the next one to deliver
    };

    bool wants(const ggml_tensor* node) const;
    void record(const ggml_tensor* node);

    std::vector<int> slot_of_layer_; // layer number -> index into study_.layers, or -1
    std::vector<Filled> filled_;     // per slot
    Study study_;
    KeptException kept_;
    bool open_ = false;
};

// Where a context that lives longer has its tap: for llama_context_params, cb_eval = TapPlace::callback and
// cb_eval_user_data = the place. Null declines every node.
struct TapPlace {
    QueryTap* tap = nullptr;

    static bool callback(ggml_tensor* node, bool ask, void* place) {
        QueryTap* tap = static_cast<TapPlace*>(place)->tap;
        return tap ? QueryTap::callback(node, ask, tap) : !ask;
    }
};

// The open tap is in its place as long as this lives.
class Listening {
  public:
    Listening(TapPlace& place, QueryTap& tap) : place_(place) {
        tap.open(true);
        place_.tap = &tap;
    }
    ~Listening() { place_.tap = nullptr; }
    Listening(const Listening&) = delete;
    Listening& operator=(const Listening&) = delete;

  private:
    TapPlace& place_;
};

} // namespace kvfold
