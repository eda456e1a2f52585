// What a flash-attention node of llama.cpp's graph says of the layer that it belongs to.
#pragma once

#include "model/attention_layer.h"

#include <ggml.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace kvfold {

// Sources of a flash-attention node.
inline constexpr int kQuerySource = 0, kKeySource = 1, kValueSource = 2;

// By its name: the number of an operation is another in each version of ggml.
bool is_flash_attention(const ggml_tensor* node);

// The model's layer whose cache a flash-attention node reads, or -1 for every other node.
int cache_layer(const ggml_tensor* node);

// Reads what a flash-attention node says of itself: shapes, scale, softcap, the layer's number from the
// name of the cache tensor behind its keys. Empty for every other node.
std::optional<AttentionLayer> read_attention_node(const ggml_tensor* node);

// The first row of the cache tensor behind the keys of a flash-attention node: the bytes of its first cell.
std::vector<uint8_t> read_first_key(const ggml_tensor* node);

} // namespace kvfold
