// A llama_context of the program whose sequences kvfold watches and folds. Every wrapped call on it goes
// through here, one at a time; study and solve run beside them on a snapshot, and only the swap takes the
// lock.
#pragma once

#include "engine/fold_task.h"
#include "engine/policy.h"
#include "launch/settings.h"
#include "preload/batch_log.h"
#include "preload/journal.h"
#include "preload/saved_states.h"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

namespace kvfold::preload {

struct JobResult {
    bool done = false;
    Status status;
    CompactReport report;
    std::string method;
};

class ManagedContext {
  public:
    // params: as the context was made. Keeps no reference to settings.
    ManagedContext(llama_context* ctx, llama_model* model, const llama_context_params& params,
                   int virtual_factor, size_t cell_bytes, const Policy& policy);
    ~ManagedContext() { close(); }

    // Cancels what runs and touches the context no more: it is about to be freed.
    void close();

    llama_context* context() const { return ctx_; }
    uint32_t cells() const { return n_ctx_; }
    uint32_t cells_of_a_sequence() const { return n_ctx_seq_; } // at most
    uint32_t told_n_ctx() const { return n_ctx_ * virtual_; }   // what the program is told
    uint32_t told_n_ctx_seq() const { return n_ctx_seq_ * virtual_; }

    // The wrapped calls. They return what llama.cpp returned, unless said otherwise.
    int32_t decode(const std::vector<BatchEntry>& entries, const std::function<int32_t()>& call);
    void clear(bool data);
    // Positions inside a folded region cannot be removed one by one. When the rest of the sequence goes too,
    // what stood before is read again from its tokens; else the answer is false, as where llama.cpp cannot.
    bool remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1);
    void copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1);
    void keep(llama_seq_id seq_id);
    // call adds to positions or divides them: which token stands where is not known afterwards.
    void move_positions(llama_seq_id seq_id, const std::function<void()>& call);
    // What makes a program start a sequence again, as it does on sliding windows, when it wants to cut inside
    // the folded region: the last folded position, less the window, for programs ask for that much before a
    // cut.
    llama_pos pos_min(llama_seq_id seq_id);
    bool can_shift(); // false while kvfold folds by itself: folded keys stand for more than one position
    size_t state_size(llama_seq_id seq_id, llama_state_seq_flags flags);
    size_t get_state(uint8_t* dst, size_t size, llama_seq_id seq_id, llama_state_seq_flags flags);
    size_t set_state(const uint8_t* src, size_t size, llama_seq_id seq_id, llama_state_seq_flags flags);
    size_t save_file(const char* path, llama_seq_id seq_id, const llama_token* tokens, size_t count);
    size_t load_file(const char* path, llama_seq_id seq_id, llama_token* tokens, size_t capacity,
                     size_t* count);
    size_t set_all(const std::function<size_t()>& call); // a state of all sequences replaces them

    // What the control channel asks for. Any thread may call.
    Json state();
    Json describe() const;
    Policy policy();
    void set_policy(const Policy& policy);
    Result<uint64_t> compact(llama_seq_id seq_id, const Method* method, double ratio); // a job's number
    Result<JobResult> job(uint64_t number);                                            // fails with not_found

  private:
    using Lock = std::unique_lock<std::mutex>;

    // Bookkeeping; all with the lock held.
    SequenceLog& log_of(llama_seq_id seq_id) { return logs_[seq_id]; }
    size_t stream_of(llama_seq_id seq_id) const { return unified_ ? 0 : static_cast<size_t>(seq_id); }
    size_t used(size_t stream) const;
    void record(const std::vector<BatchEntry>& entries, int32_t code);
    // Whether a batch of so many entries holds about one token a sequence.
    bool is_generation(size_t entries) const { return entries <= logs_.size(); }
    void note_decode(size_t entries, double seconds);
    void relearn(llama_seq_id seq_id, std::vector<llama_token> tokens);
    void relearn_all();
    std::vector<llama_seq_id> sequences_of(llama_seq_id seq_id) const; // -1 = all
    bool read_again(Lock& lock, llama_seq_id seq_id, llama_pos end);
    void begin_call() { size_promised_ = false; }

    // Folding, in managed_folding.cpp; with the lock held.
    bool has_room(const std::vector<BatchEntry>& entries, size_t& full_stream) const;
    bool make_room(Lock& lock, size_t stream);
    void fold_when_high(bool generating);
    llama_seq_id best_to_fold(size_t stream, bool urgent, FoldPlan& plan) const; // -1: none
    Result<uint64_t> start_fold(llama_seq_id seq_id, const Method* method, const Budget& budget, int threads);
    int all_threads() const { return std::max(1, llama_n_threads_batch(ctx_)); }
    bool start_or_refuse(llama_seq_id seq_id, const FoldPlan& plan, int threads);
    void refuse(llama_seq_id seq_id, const std::string& reason);
    void touch(llama_seq_id seq_id, llama_pos p0); // cells from p0 on change: a fold of them is void
    void run_fold(const std::stop_token& stop);
    void note_fold(const FoldTask& task, Status status, const Result<CompactState>& compact);
    Status finish_fold(Result<CompactState>& compact);
    void wait_for_fold(Lock& lock);

    llama_context* const ctx_;
    llama_model* const model_;
    const llama_context_params params_;
    const uint32_t virtual_, n_ctx_, n_ctx_seq_;
    const size_t cell_bytes_;
    const bool unified_;

    std::mutex mutex_;
    std::condition_variable changed_; // a fold ended, or the program asked for what it was promised
    std::map<llama_seq_id, SequenceLog> logs_;
    SavedStates saved_;
    Policy policy_;
    Journal journal_;
    bool size_promised_ = false;     // the program asked for a size and will ask for that many bytes next
    std::unique_ptr<FoldTask> fold_; // what runs; null = nothing
    bool closed_ = false;
    bool fold_is_void_ = false;                 // its cells are not what they were
    std::map<llama_seq_id, llama_pos> refused_; // end of the sequence when a fold of it failed
    std::map<uint64_t, JobResult> jobs_;        // the newest few
    uint64_t next_job_ = 1, running_job_ = 0;
    std::jthread worker_; // last: it uses the rest
};

} // namespace kvfold::preload
