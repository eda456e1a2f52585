// The tap: a cb_eval callback that copies the queries of chosen layers out of the attention nodes.
#pragma once

#include "base/result.h"
#include "study/attention.h"

#include <ggml.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace kvfold {

// Reads what a flash-attention node says of itself: shapes, scale, softcap, the layer's number from the
// name of the cache tensor behind its keys. Empty for every other node.
std::optional<AttentionLayer> read_attention_node(const ggml_tensor* node);

// The first row of the cache tensor behind the keys of a flash-attention node: the bytes of its first cell.
std::vector<uint8_t> read_first_key(const ggml_tensor* node);

// Copies the queries of one evaluation into rows, [tokens, heads * d]. REQUIRES: rows.rows() >= tokens.
// ggml: q ne = [d, tokens, heads], f32, any strides.
Index read_queries(const ggml_tensor* node, MutableMatrixView rows);

// Fills a Study of a known number of tokens, appending at each evaluation while it is open. Declines every
// other node, so that nothing else is slowed down, and never changes one: llama.cpp reuses its graph.
class QueryTap {
  public:
    // layers: those whose queries are wanted. capacity: tokens that all calls together may deliver.
    QueryTap(const std::vector<AttentionLayer>& layers, Index capacity);

    void open(bool is_open) { open_ = is_open; }
    Index tokens_filled() const; // read by every layer

    // The study so far, shrunk to the tokens that were read. From then on the tap declines everything.
    Study take();

    // For llama_context_params: cb_eval = QueryTap::callback, cb_eval_user_data = the tap.
    static bool callback(ggml_tensor* node, bool ask, void* tap);

  private:
    bool wants(const ggml_tensor* node) const;
    void record(const ggml_tensor* node);

    std::vector<int> slot_of_layer_; // layer number -> index into study_.layers, or -1
    std::vector<Index> filled_;      // rows written, per slot
    Study study_;
    bool open_ = false;
};

} // namespace kvfold
