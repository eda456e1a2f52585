// A llama_context of the program whose sequences kvfold watches and folds. This is the one place that holds
// the lock: every wrapped call on the context goes through here, one at a time. Study and solve run beside
// them on a snapshot (folder.h), and only the swap takes the lock.
#pragma once

#include "base/mutex.h"
#include "engine/fold_task.h"
#include "engine/policy.h"
#include "engine/recall.h"
#include "preload/calls.h"
#include "preload/edits.h"
#include "preload/folder.h"
#include "preload/journal.h"
#include "preload/log.h"
#include "preload/part_outputs.h"
#include "preload/program_batch.h"
#include "preload/real.h"
#include "preload/saved_states.h"
#include "study/query_tap.h"

#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

namespace kvfold::preload {

struct JobResult {
    bool done = false;
    Status status;
    CompactReport report;
    std::string method;
};

// llama.cpp's own function with the program's arguments. Each wrapped call calls it exactly once.
template <class Answer> using Original = const std::function<Answer()>&;

struct ContextSizes {
    uint32_t virtual_factor = 1;
    uint32_t asked_batch = 0; // n_batch as the program asked for it
    size_t cell_bytes = 0;
    size_t archive_bytes = 0; // for cells that folds replace, at most; 0: they are not kept
    size_t number = 1;        // among the program's contexts, for the log
    std::filesystem::path archive_folder =
        {}; // for the archives of slot files; empty: they end with the process
};

// What prompts take out of the archive.
struct Recalling {
    size_t cells = 0;                                      // of each KV head; 0: nothing
    AttentionMap map = {};                                 // of the model, also where nothing is recalled
    std::shared_ptr<TapPlace> tap = {};                    // of the context
    std::optional<double> time_share = AskingTime::kShare; // of answers, for asking
};

inline constexpr const Method* kQuickest = &methods::keep_last; // it computes nothing

class ManagedContext {
  public:
    // params: as the context was made.
    ManagedContext(llama_context* ctx, llama_model* model, const llama_context_params& params,
                   const ContextSizes& sizes, Recalling recalling, const Policy& policy);
    ~ManagedContext() { close(); }

    // Cancels what runs and touches the context no more: it is about to be freed.
    void close();

    llama_context* context() const { return ctx_; }
    uint32_t cells() const { return n_ctx_; }
    uint32_t cells_of_a_sequence() const { return n_ctx_seq_; }            // at most
    uint32_t told_n_ctx() const { return n_ctx_ * sizes_.virtual_factor; } // what the program is told
    uint32_t told_n_ctx_seq() const { return n_ctx_seq_ * sizes_.virtual_factor; }
    uint32_t told_n_batch() const { return gives_hidden_states_ ? n_batch_ : told_n_batch_; }

    // The wrapped calls. They return what llama.cpp returned, unless said otherwise.

    // A batch that finds no room is decoded in parts. 1, and nothing is decoded, when it cannot be: it is of
    // images, or of outputs that only llama.cpp can keep.
    int32_t decode(ProgramBatch& batch);
    // What `read` makes of the outputs of the newest batch.
    template <class Read> auto outputs(Read read) {
        const MutexLock lock(mutex_);
        return read(outputs_);
    }
    void clear(Original<void> original);
    // A removal that takes some of what a fold holds: when the rest of the sequence goes too, what stood
    // before is taken back from the archive, or read again from its tokens; amid the sequence, cells of the
    // fold go in proportion. Where neither can be the answer is false, as where llama.cpp cannot.
    bool remove(llama_seq_id seq_id, llama_pos p0, llama_pos p1, Original<bool> original);
    void copy(llama_seq_id from, llama_seq_id to, llama_pos p0, llama_pos p1, Original<void> original);
    void keep(llama_seq_id seq_id, Original<void> original);
    void add(llama_seq_id seq_id, llama_pos p0, llama_pos p1, llama_pos delta, Original<void> original);
    void divide(llama_seq_id seq_id, llama_pos p0, llama_pos p1, int divisor, Original<void> original);
    // What makes a program start a sequence again, as it does on sliding windows, when it wants to cut inside
    // the folded region: the last folded position, less the window, for programs ask for that much before a
    // cut.
    llama_pos pos_min(llama_seq_id seq_id, Original<llama_pos> original);
    std::vector<llama_token> tokens(llama_seq_id seq_id); // empty: not known
    // Where this sequence is folded and holds these tokens, as far as both are known: the smallest position
    // at which it can be cut and everything before it comes back. 0: anywhere.
    llama_pos first_cut(llama_seq_id seq_id, std::span<const llama_token> tokens);
    llama_pos window() const { return window_; } // how far before a cut the program asks for cells
    // The study asks with them too. A fold that runs asked with others and is void.
    int32_t set_loras(std::span<llama_adapter_lora* const> loras, std::span<const float> scales,
                      Original<int32_t> original);
    int32_t set_control(const ControlVector& control, Original<int32_t> original);
    void set_causal(bool causal, Original<void> original); // a batch that is not causal is one piece
    void set_embeddings(bool embeddings, Original<void> original);
    bool set_sampler(llama_seq_id seq_id, bool has_sampler, Original<bool> original);
    // The program reads hidden states of all tokens by their place in the batch, as draft heads do: batches
    // are one piece then, and no larger than llama.cpp takes.
    void give_hidden_states() { gives_hidden_states_ = true; }
    // A call that only reads, or that works on no sequence.
    template <class Answer> Answer undisturbed(Original<Answer> original) {
        const MutexLock lock(mutex_);
        const Inside inside;
        return original();
    }
    // seq_id -1: all of them.
    size_t state_size(llama_seq_id seq_id, llama_state_seq_flags flags, Original<size_t> original);
    size_t get_state(uint8_t* dst, llama_seq_id seq_id, llama_state_seq_flags flags,
                     Original<size_t> original);
    size_t set_state(std::span<const uint8_t> bytes, llama_seq_id seq_id, llama_state_seq_flags flags,
                     Original<size_t> original);
    // Written beside the old file and put in its place; where that cannot be, the original writes it.
    size_t save_file(const char* path, llama_seq_id seq_id, std::span<const llama_token> words,
                     Original<size_t> original);
    // A damaged file is refused, with 0, before anything changes.
    size_t load_file(const char* path, llama_seq_id seq_id, std::span<llama_token> words, size_t* count,
                     Original<size_t> original);
    bool save_all(Original<bool> original);
    // A state of all sequences replaces them. tokens: what stood in front of it, once it is read.
    size_t set_all(Original<size_t> original, const std::function<std::span<const llama_token>()>& words);

    // What the control channel asks for. Any thread may call.
    // The program is told to stop: a fold that runs is cancelled, and whatever needs room from now on gets it
    // from the quickest method.
    void hurry(bool is_so);
    double busy_s() const { return calls_.seconds(); } // the call that runs; 0: none. Takes no lock
    Json state();
    Json describe() const;
    Journal journal();
    void go_on(Journal past); // counts on from there
    Policy policy();
    Status set_policy(const Policy& policy); // fails where it can never work with these cells
    Result<uint64_t> compact(llama_seq_id seq_id, const Method* method, double ratio); // a job's number
    // What the sequence's folds replaced stands there again, as far back as the archive has it and there is
    // room; the cells that it holds then. Fails with not_found where nothing is held or archived,
    // invalid_argument where nothing is folded, busy where there is no room for the newest fold's or the
    // state is being saved, and as write_sequence.
    Result<size_t> unfold(llama_seq_id seq_id);
    Result<JobResult> job(uint64_t number); // fails with not_found

  private:
    // Runs beside the original: what it throws is logged, and the books are read anew from llama.cpp.
    template <class Note> void note(Note note) KVFOLD_REQUIRES(mutex_);
    std::string name(llama_seq_id seq_id) const; // for the log
    llama_memory_t memory() const { return llama_get_memory(ctx_); }
    // Whether its cells can be exchanged by position: no sliding window and no recurrent state goes with
    // them.
    bool is_plain() const { return llama_model_n_swa(model_) <= 0 && !llama_model_is_hybrid(model_); }
    void touch(llama_seq_id seq_id, llama_pos p0)
        KVFOLD_REQUIRES(mutex_); // cells from p0 on change: a fold is void
    void touch_all() KVFOLD_REQUIRES(mutex_);
    void relearn(llama_seq_id seq_id, std::vector<llama_token> tokens, bool may_hide_fold = false)
        KVFOLD_REQUIRES(mutex_);
    void learn(llama_seq_id seq_id, const KvSection& section, llama_pos fold_end,
               std::vector<llama_token> tokens) KVFOLD_REQUIRES(mutex_);
    void relearn_own(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_);
    void relearn_all() KVFOLD_REQUIRES(mutex_);
    void promise(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_);
    void keep_promise(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_);
    bool drop_folded(llama_seq_id seq_id, llama_pos p0, llama_pos p1) KVFOLD_REQUIRES(mutex_);
    bool read_again(llama_seq_id seq_id, llama_pos end, Original<bool> original) KVFOLD_REQUIRES(mutex_);

    // What folds replaced, in managed_archive.cpp.
    struct KnownSequence { // what a sequence is to hold, and what is known of it
        SequenceState state;
        KnownState known;
        std::shared_ptr<ArchivedFold> replaced; // by a fold that was needed for it; null: by none
    };
    std::optional<bool> take_back(llama_seq_id seq_id, llama_pos end, Original<bool> original)
        KVFOLD_REQUIRES(mutex_);
    Result<KnownSequence> before_cut(llama_seq_id seq_id, const ReplacedCells& cells, llama_pos end) const
        KVFOLD_REQUIRES(mutex_);
    Result<KnownSequence> without_newest_folds(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);
    void gather_fold(SequenceState& state, llama_pos end) const;
    Status become(llama_seq_id seq_id, KnownSequence now) KVFOLD_REQUIRES(mutex_);
    llama_pos first_cut(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);

    // In managed_archive_files.cpp.
    void save_archive(llama_seq_id seq_id, const std::filesystem::path& slot) KVFOLD_REQUIRES(mutex_);
    Result<std::vector<std::shared_ptr<ArchivedFold>>> read_archive(const std::filesystem::path& file,
                                                                    const KvSection& section) const
        KVFOLD_REQUIRES(mutex_);
    std::vector<std::shared_ptr<ArchivedFold>> load_archive(const std::filesystem::path& slot,
                                                            const KvSection& section) const
        KVFOLD_REQUIRES(mutex_);

    // What prompts and answers ask for, in managed_recall.cpp.
    using Speaking = std::map<llama_seq_id, std::vector<Index>>; // places in the batch of what each says
    struct Asking { // of a batch, the entries of a prompt's newest tokens: those that ask, and the last one
        llama_seq_id seq_id;
        size_t first, last;
        bool ends; // the program wants to know what follows
    };
    void note_prompts(std::span<const BatchEntry> entries) KVFOLD_REQUIRES(mutex_);
    std::vector<Asking> prompts_that_ask(std::span<const BatchEntry> entries) const KVFOLD_REQUIRES(mutex_);
    void recall_for(const Asking& prompt, const Study& heard, size_t coming) KVFOLD_REQUIRES(mutex_);
    Result<Study> ask_again(llama_seq_id seq_id, std::span<const llama_token> tokens) KVFOLD_REQUIRES(mutex_);
    Speaking asking(std::span<const BatchEntry> entries) KVFOLD_REQUIRES(mutex_);
    void recall_behind(const Speaking& speaking, const Study& heard) KVFOLD_REQUIRES(mutex_);
    void note_answers(std::span<const BatchEntry> entries, double seconds) KVFOLD_REQUIRES(mutex_);
    bool is_quick_to_recall() const KVFOLD_REQUIRES(mutex_);
    bool can_recall(llama_seq_id seq_id, size_t coming) const KVFOLD_REQUIRES(mutex_);
    llama_pos place_of_recalled(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);
    Result<size_t> recall_with(llama_seq_id seq_id, const Study& asked) KVFOLD_REQUIRES(mutex_);
    Result<KvSection> chosen_by(const Study& asked, llama_seq_id seq_id, llama_pos place) const
        KVFOLD_REQUIRES(mutex_);
    Status put_beside(llama_seq_id seq_id, const KvSection& recalled, llama_pos place)
        KVFOLD_REQUIRES(mutex_);
    Status write(llama_seq_id seq_id, const SequenceState& state) KVFOLD_REQUIRES(mutex_);
    void note_recall(llama_seq_id seq_id, const Result<size_t>& recalled, double seconds)
        KVFOLD_REQUIRES(mutex_);
    Status drop_recalled(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_);
    void drop_recalled_of(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_); // -1: of all
    bool drop_recalled_in(size_t stream) KVFOLD_REQUIRES(mutex_);       // false: there are none

    void change(Adapters adapters) KVFOLD_REQUIRES(mutex_);

    // Decoding, in managed_decoding.cpp.
    int32_t decode_whole(ProgramBatch& batch) KVFOLD_REQUIRES(mutex_);
    int32_t decode_listening(ProgramBatch& batch) KVFOLD_REQUIRES(mutex_);
    int32_t decode_in_parts(ProgramBatch& batch, std::span<const Asking> prompts) KVFOLD_REQUIRES(mutex_);
    template <class Decode>
    int32_t heard(size_t entries, Study& asked, Decode decode) KVFOLD_REQUIRES(mutex_);
    int32_t decode_as_fits(ProgramBatch& batch, bool is_read) KVFOLD_REQUIRES(mutex_);
    bool can_be_parted(const ProgramBatch& batch, bool is_read) const KVFOLD_REQUIRES(mutex_);
    bool keep_outputs(size_t size, size_t first, size_t count) KVFOLD_REQUIRES(mutex_);
    void undo(const std::map<llama_seq_id, llama_pos>& ends) KVFOLD_REQUIRES(mutex_);
    void record(std::span<const BatchEntry> batch, std::span<const BatchEntry> part, int32_t code,
                double seconds) KVFOLD_REQUIRES(mutex_);
    bool is_generation(size_t entries) const KVFOLD_REQUIRES(mutex_);
    size_t vocabulary() const;
    size_t most_at_once() const; // entries for which room is made together
    size_t free_cells(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_); // where it has its cells
    size_t fitting(std::span<const BatchEntry> entries, size_t& full_stream) const KVFOLD_REQUIRES(mutex_);

    // States, in managed_states.cpp.
    llama_pos hidden_fold(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);
    void make_room_for(llama_seq_id seq_id, size_t cells) KVFOLD_REQUIRES(mutex_);
    size_t room_for(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);
    Result<KnownSequence> folded_to_fit(const SequenceState& state, const KnownState& known,
                                        size_t cells) const KVFOLD_REQUIRES(mutex_);
    std::optional<KnownSequence> fold_in(llama_seq_id seq_id, const SequenceState& state,
                                         const KnownState& known) KVFOLD_REQUIRES(mutex_);
    struct Held { // by a sequence, before a restore
        std::vector<uint8_t> blob;
        KnownState known;
    };
    bool is_of_another_model(const SequenceState& state) const;
    Held held_by(llama_seq_id seq_id) KVFOLD_REQUIRES(mutex_);
    bool has_window_for(llama_seq_id seq_id, llama_pos end) const KVFOLD_REQUIRES(mutex_);
    const AttentionMap* recalled_by() const { return recalling_.cells > 0 ? &recalling_.map : nullptr; }
    void end_restore(llama_seq_id seq_id, bool is_restored, KnownState now, Held before)
        KVFOLD_REQUIRES(mutex_);

    // Folding, in managed_folding.cpp.
    bool make_room(size_t stream, llama_seq_id spared = -1) KVFOLD_REQUIRES(mutex_);
    void fold_when_high(bool generating) KVFOLD_REQUIRES(mutex_);
    llama_seq_id best_to_fold(size_t stream, bool urgent, llama_seq_id spared, FoldPlan& plan) const
        KVFOLD_REQUIRES(mutex_); // -1: none
    bool can_fold(const Foldable& part) const KVFOLD_REQUIRES(mutex_);
    bool can_share(const Foldable& part) const KVFOLD_REQUIRES(mutex_);
    CompactRequest request_for(const Method* method, bool knows_tokens, const Budget& budget,
                               int threads) const KVFOLD_REQUIRES(mutex_);
    const Method* method_for(llama_seq_id seq_id) const KVFOLD_REQUIRES(mutex_);
    struct Pace { // of a fold
        int threads;
        bool gives_way = true;   // false: the program waits for it
        bool is_awaited = false; // the program waits for it, or soon will
    };
    Result<uint64_t> start_fold(llama_seq_id seq_id, const Method* method, const FoldPlan& plan, Pace pace)
        KVFOLD_REQUIRES(mutex_);
    bool start_or_refuse(llama_seq_id seq_id, const FoldPlan& plan, Pace pace) KVFOLD_REQUIRES(mutex_);
    void refuse(llama_seq_id seq_id, const std::string& reason) KVFOLD_REQUIRES(mutex_);
    void wait_for_fold() KVFOLD_REQUIRES(mutex_);
    void end_fold(const FoldTask& task, Result<CompactState> compact, const std::stop_token& stop);
    std::shared_ptr<ArchivedFold> replaced_by(const FoldTask& task, const CompactState& compact) const;
    Status swap(const FoldTask& task, Result<CompactState>& compact, std::shared_ptr<ArchivedFold> replaced)
        KVFOLD_REQUIRES(mutex_);
    void note_fold(const FoldTask& task, Status status, const Result<CompactState>& compact)
        KVFOLD_REQUIRES(mutex_);
    int all_threads() const { return std::max(1, llama_n_threads_batch(ctx_)); }

    llama_context* const ctx_;
    llama_model* const model_;
    const llama_context_params params_;
    const ContextSizes sizes_;
    const Recalling recalling_;
    const uint32_t n_ctx_, n_ctx_seq_, n_batch_;
    const uint32_t told_n_batch_;
    const llama_pos window_;
    const llama_pos kept_window_; // of a model whose windows the program keeps whole (swa_full), else 0

    Calls calls_;
    std::atomic<bool> gives_hidden_states_ = false;
    std::atomic<bool> in_a_hurry_ = false; // also read where a fold is computed with the lock held
    Mutex mutex_;
    Condition changed_; // a fold ended, or the program asked for what it was promised
    Books books_ KVFOLD_GUARDED_BY(mutex_);
    Archive archive_ KVFOLD_GUARDED_BY(mutex_);
    SavedStates saved_ KVFOLD_GUARDED_BY(mutex_);
    Policy policy_ KVFOLD_GUARDED_BY(mutex_);
    Adapters adapters_ KVFOLD_GUARDED_BY(mutex_);
    Edits edits_ KVFOLD_GUARDED_BY(mutex_);
    Journal journal_ KVFOLD_GUARDED_BY(mutex_);
    // Sequences of whose state the program knows the size, and will ask for that many bytes next; -1: of all.
    std::set<llama_seq_id> promised_ KVFOLD_GUARDED_BY(mutex_);
    bool causal_ KVFOLD_GUARDED_BY(mutex_);
    bool embeds_ KVFOLD_GUARDED_BY(mutex_);                    // outputs are embeddings, of all tokens
    std::set<llama_seq_id> sampled_ KVFOLD_GUARDED_BY(mutex_); // by llama.cpp itself, on the device
    PartOutputs outputs_ KVFOLD_GUARDED_BY(mutex_);            // of the newest batch
    bool shift_is_due_ KVFOLD_GUARDED_BY(mutex_) =
        false; // llama.cpp moves keys and copies streams at the next decode
    bool closed_ KVFOLD_GUARDED_BY(mutex_) = false;
    std::string why_not_on_device_ KVFOLD_GUARDED_BY(mutex_); // that was said last
    bool fold_is_void_ KVFOLD_GUARDED_BY(mutex_) = false;     // its cells are not what they were
    std::map<llama_seq_id, llama_pos>
        refused_ KVFOLD_GUARDED_BY(mutex_); // end of the sequence when a fold failed
    AskingTime asking_time_ KVFOLD_GUARDED_BY(mutex_){recalling_.time_share};
    std::map<llama_seq_id, AskingPace> paces_ KVFOLD_GUARDED_BY(mutex_); // of answers, which ask
    std::set<llama_seq_id> prompts_ KVFOLD_GUARDED_BY(mutex_);           // that the newest batch goes on with
    std::map<llama_seq_id, llama_pos> ends_ KVFOLD_GUARDED_BY(mutex_);   // where decodes have left sequences
    std::map<llama_seq_id, int>
        failures_ KVFOLD_GUARDED_BY(mutex_); // of the policy's methods, one after the other
    std::map<uint64_t, JobResult> jobs_ KVFOLD_GUARDED_BY(mutex_); // the newest few
    uint64_t next_job_ KVFOLD_GUARDED_BY(mutex_) = 1, running_job_ KVFOLD_GUARDED_BY(mutex_) = 0;
    Folder folder_; // last: its thread uses the rest
};

template <class Note> void ManagedContext::note(Note note) {
    try {
        note();
        return;
    } catch (const std::exception& error) {
        log_error("internal error: {}; the books are read anew", error.what());
    }
    try {
        relearn_all();
    } catch (const std::exception& error) {
        log_error("internal error: {}; nothing is folded until the context is cleared", error.what());
        books_.clear();
    }
}

} // namespace kvfold::preload
