// What a context computes with beside the weights of its model: LoRA adapters and a control vector.
#pragma once

#include "base/result.h"

#include <llama.h>

#include <filesystem>
#include <vector>

namespace kvfold {

struct LoraAdapter {
    llama_adapter_lora* adapter = nullptr; // the model's
    float scale = 1;
    bool operator==(const LoraAdapter&) const = default;
};

struct ControlVector {
    std::vector<float> data; // [layers, width] from layer 1 on; empty: none
    int32_t width = 0, first_layer = 0, last_layer = 0;
    bool operator==(const ControlVector&) const = default;
};

struct Adapters {
    std::vector<LoraAdapter> loras;
    ControlVector control;
    bool operator==(const Adapters&) const = default;
};

// For what the context decodes from now on. Fails with `llama`.
Status set_adapters(llama_context* ctx, const Adapters& adapters);

// Adds a LoRA adapter of a GGUF file; the model frees it. Errors name the file.
Status load_lora(llama_model* model, const std::filesystem::path& path, float scale, Adapters& adapters);

// Adds a control vector of a GGUF file, tensors direction.1 and up, to all layers. Fails with io, corrupt or
// invalid_argument, naming the file.
Status load_control_vector(const llama_model* model, const std::filesystem::path& path, float scale,
                           Adapters& adapters);

} // namespace kvfold
