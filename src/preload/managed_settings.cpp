// What the program sets on a context: adapters, and what the next decodes put out.
#include "preload/managed_context.h"

namespace kvfold::preload {

void ManagedContext::change(Adapters adapters) {
    if (adapters == adapters_) return; // programs set them before every batch
    adapters_ = std::move(adapters);
    if (!folder_.task()) return;
    fold_is_void_ = true;
    folder_.cancel();
}

int32_t ManagedContext::set_loras(std::span<llama_adapter_lora* const> loras, std::span<const float> scales,
                                  Original<int32_t> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    const int32_t code = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        Adapters adapters{{}, adapters_.control};
        for (size_t i = 0; i < loras.size(); ++i)
            adapters.loras.push_back({loras[i], scales[i]});
        if (code == 0) change(std::move(adapters));
    });
    return code;
}

int32_t ManagedContext::set_control(const ControlVector& control, Original<int32_t> original) {
    const MutexLock lock(mutex_);
    const Inside inside;
    const int32_t code = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (code == 0) change({adapters_.loras, control});
    });
    return code;
}

void ManagedContext::set_causal(bool causal, Original<void> original) {
    const MutexLock lock(mutex_);
    original();
    causal_ = causal;
}

void ManagedContext::set_embeddings(bool embeddings, Original<void> original) {
    const MutexLock lock(mutex_);
    original();
    embeds_ = embeddings;
}

bool ManagedContext::set_sampler(llama_seq_id seq_id, bool has_sampler, Original<bool> original) {
    const MutexLock lock(mutex_);
    const bool is_set = original();
    note([&]() KVFOLD_REQUIRES(mutex_) {
        if (has_sampler && is_set)
            sampled_.insert(seq_id);
        else
            sampled_.erase(seq_id);
    });
    return is_set;
}

} // namespace kvfold::preload
