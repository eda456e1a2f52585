#include "model/adapters.h"

#include <ggml.h>
#include <gguf.h>

#include <algorithm>
#include <memory>

namespace kvfold {

namespace {

struct FreeGguf {
    void operator()(gguf_context* file) const { gguf_free(file); }
    void operator()(ggml_context* tensors) const { ggml_free(tensors); }
};

} // namespace

Status set_adapters(llama_context* ctx, const Adapters& adapters) {
    std::vector<llama_adapter_lora*> loras;
    std::vector<float> scales;
    for (const LoraAdapter& lora : adapters.loras) {
        loras.push_back(lora.adapter);
        scales.push_back(lora.scale);
    }
    const ControlVector& control = adapters.control;
    const bool are_set = llama_set_adapters_lora(ctx, loras.data(), loras.size(), scales.data()) == 0 &&
                         (control.data.empty() ||
                          llama_set_adapter_cvec(ctx, control.data.data(), control.data.size(), control.width,
                                                 control.first_layer, control.last_layer) == 0);
    if (are_set) return {};
    return fail(ErrorCode::llama,
                "llama.cpp refused the adapters of the context for another one of its model");
}

Status load_lora(llama_model* model, const std::filesystem::path& path, float scale, Adapters& adapters) {
    llama_adapter_lora* adapter = llama_adapter_lora_init(model, path.c_str());
    if (adapter == nullptr)
        return fail(ErrorCode::invalid_argument, "{}: not a LoRA adapter of this model", path.string());
    adapters.loras.push_back({adapter, scale});
    return {};
}

Status load_control_vector(const llama_model* model, const std::filesystem::path& path, float scale,
                           Adapters& adapters) {
    ggml_context* raw = nullptr;
    const std::unique_ptr<gguf_context, FreeGguf> file(gguf_init_from_file(path.c_str(), {false, &raw}));
    const std::unique_ptr<ggml_context, FreeGguf> tensors(raw);
    if (!file) return fail(ErrorCode::io, "{}: cannot be read as a GGUF file", path.string());
    ControlVector& control = adapters.control;
    const auto width = llama_model_n_embd(model);
    const auto layers = static_cast<size_t>(llama_model_n_layer(model));
    control.width = width;
    control.first_layer = 0;
    control.last_layer = static_cast<int32_t>(layers);
    control.data.resize(static_cast<size_t>(width) * (layers - 1)); // layer 0 has none
    bool found = false;
    for (size_t layer = 1; layer < layers; ++layer) {
        const ggml_tensor* direction =
            ggml_get_tensor(tensors.get(), kvfold::format("direction.{}", layer).c_str());
        if (direction == nullptr) continue;
        if (direction->type != GGML_TYPE_F32 || ggml_nelements(direction) != width)
            return fail(ErrorCode::corrupt, "{}: direction.{} is not {} numbers of f32, as this model needs",
                        path.string(), layer, width);
        const auto* values = static_cast<const float*>(direction->data);
        float* sum = control.data.data() + static_cast<ptrdiff_t>(layer - 1) * width;
        std::transform(values, values + width, sum, sum,
                       [&](float value, float old) { return old + scale * value; });
        found = true;
    }
    if (!found)
        return fail(ErrorCode::invalid_argument, "{}: not a control vector, it has no tensor direction.1",
                    path.string());
    return {};
}

} // namespace kvfold
