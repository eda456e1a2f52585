// The contexts of the program, and which of them kvfold manages: one, the first that can be compacted.
// Draft, embedding and probe contexts are passed through untouched.
#pragma once

#include "launch/settings.h"
#include "preload/managed_context.h"

#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

namespace kvfold::preload {

class Registry {
  public:
    static Registry& get(); // lives as long as the process: threads of the program may outlive main()

    // False, with a line in the log, when the settings are wrong or this is another llama.cpp than the one
    // kvfold was built for: then everything is passed through.
    bool enabled() const { return enabled_; }
    const std::optional<std::string>& control() const { return settings_.control; } // a socket

    void note_model(llama_model* model, const llama_model_params& params);

    // What becomes of the context to be made; the parameters to make it with, when it will be managed.
    // refuse, with a line in the log: with these settings it could never be folded.
    enum class Verdict { pass, manage, refuse };
    Verdict prepare(llama_model* model, llama_context_params& params);
    void manage(llama_context* ctx, llama_model* model, const llama_context_params& params);
    void release(llama_context* ctx); // before it is freed; waits for its fold to stop

    // The context's manager; null when it is not managed or the thread is inside llama.cpp or kvfold.
    std::shared_ptr<ManagedContext> find(const llama_context* ctx);
    std::shared_ptr<ManagedContext> find(llama_memory_t memory);
    std::shared_ptr<ManagedContext> managed(); // whichever there is; null: none

    Json describe(); // of the managed context, or why there is none; null before the first
    BatchLog& batches() { return batches_; }

  private:
    Registry();

    mutable std::mutex mutex_;
    launch::PreloadSettings settings_;
    Policy policy_;
    bool enabled_ = false;
    std::set<const llama_model*> without_weights_;
    std::shared_ptr<ManagedContext> managed_;
    llama_memory_t memory_ = nullptr; // of managed_
    ContextSizes sizes_;              // of the context that is made next
    std::string model_name_, reason_; // reason_: why the newest context is not managed
    BatchLog batches_;
};

} // namespace kvfold::preload
