// The contexts of the program, and which of them kvfold manages: those that generate, a draft model's too.
// Embedding and probe contexts are passed through untouched.
#pragma once

#include "launch/settings.h"
#include "preload/managed_context.h"

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace kvfold::preload {

class Registry {
  public:
    static Registry& get(); // lives as long as the process: threads of the program may outlive main()

    // False, with a line in the log, when the settings are wrong or this is another llama.cpp than the one
    // kvfold was built for: then everything is passed through.
    bool enabled() const { return enabled_; }
    const std::optional<std::string>& control() const { return settings_.control; } // a socket

    void note_model(llama_model* model, const llama_model_params& params, const char* path);

    // What becomes of the context to be made; the parameters to make it with, when it will be managed.
    // probe: it only tells the memory that it would take, with the cells that a managed one would have; else
    // the program would plan for the virtual size. refuse, with a line in the log: with these settings it
    // could never be folded.
    enum class Verdict { pass, probe, manage, refuse };
    struct Plan {
        Verdict verdict = Verdict::pass;
        ContextSizes sizes = {};
        Recalling recalling = {};
    };
    Plan prepare(llama_model* model, llama_context_params& params);
    void manage(llama_context* ctx, llama_model* model, const llama_context_params& params, const Plan& plan);
    void release(llama_context* ctx); // before it is freed; waits for its fold to stop

    // The context's manager; null when it is not managed or the thread is inside llama.cpp or kvfold.
    std::shared_ptr<ManagedContext> find(const llama_context* ctx);
    std::shared_ptr<ManagedContext> find(llama_memory_t memory);
    std::shared_ptr<ManagedContext> managed(); // the oldest, which the admin interface speaks of; null: none

    // The smallest position that the program may cut at. A draft model reads what its target reads, and the
    // program cuts both at once: a fold of either counts.
    llama_pos pos_min(ManagedContext& asked, llama_seq_id seq_id, Original<llama_pos> original);

    // Of all contexts. Fails where it can never work with the cells of the oldest.
    Status set_policy(const Policy& policy);

    // The program is told to stop: nothing waits for a fold until this is taken back.
    void hurry(bool is_so);
    double busy_s() const; // for how long the call that runs has taken, in any of the contexts; 0: none runs

    // Of the oldest managed context, or why there is none ("freed": it is gone, as while a server sleeps);
    // null before the first. "others": of the rest.
    Json describe();
    // As ManagedContext::state. While the program has no context, that of the newest one, without sequences.
    Json state();
    BatchLog& batches() { return batches_; }

  private:
    void watch_queries(llama_context_params& params, bool folds, Plan& plan) const;
    bool shrink_as_told(const llama_model* model, llama_context_params& params, bool is_probe) const;

    struct Entry {
        std::shared_ptr<ManagedContext> context;
        llama_memory_t memory;
        std::string model;
        bool leads; // made when there was no other: its policy and counters go on in the next such one
        const llama_context* ctx() const { return context->context(); }
    };

    Registry();
    std::vector<Entry> entries() const;
    std::string file() const;

    mutable std::mutex mutex_;
    launch::PreloadSettings settings_;
    Policy policy_;
    bool enabled_ = false;
    std::set<const llama_model*> without_weights_;
    std::map<const llama_model*, std::string> files_; // names without folders and ".gguf"
    std::string file_;                                // by which people know this process
    std::vector<Entry> entries_;                      // oldest first
    size_t made_ = 0;                                 // since there was none
    std::string reason_;                              // why the newest context is not managed
    std::optional<Journal> past_; // of the oldest context that is gone: counters do not go backwards
    BatchLog batches_;
};

} // namespace kvfold::preload
