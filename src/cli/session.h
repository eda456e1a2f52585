// A model, one sequence in a context of it, and the sequence's tokens.
#pragma once

#include "cli/options.h"
#include "cli/terminal.h"
#include "engine/compact.h"
#include "engine/recall.h"
#include "model/context.h"
#include "model/model.h"
#include "model/probe.h"
#include "state/slot_file.h"
#include "study/listen.h"

namespace kvfold::cli {

struct LoadedModel {
    ModelPtr model;
    AttentionMap map;
    llama_context_params params; // of every context that the command opens; n_ctx is set when it does
    Adapters adapters;           // of every context
    std::string name;            // the file's name
    SolveOn solve_on = SolveOn::automatic;

    int threads() const { return params.n_threads; }
    uint32_t trained_context() const;
};

// Loads and probes: a model that kvfold cannot serve is refused before anything long happens.
Result<LoadedModel> open_model(const ModelOptions& options);

// The tokens of a text file, as the model reads them from the start. Fails when there are none.
Result<std::vector<llama_token>> read_text(const LoadedModel& model, const std::string& path);

// A slot file that belongs to the model, checked before llama.cpp sees it.
Result<SlotFile> read_slot_for(const LoadedModel& model, const std::string& path);

// A slot file of a sequence that was never folded, for commands that fold it themselves: its tokens need not
// be read again. The cache types and layout of `model.params` become those of the file.
Result<SlotFile> read_full_slot_for(LoadedModel& model, const std::string& path);

// What a session does with what its folds replace.
struct Keeping {
    KeptFolds* folds = nullptr; // outlives the session; null: it is gone
    size_t recall = 0;          // cells of each KV head that a question takes out of them
};

class Session {
  public:
    // An empty sequence in a context of `cells`. The model must outlive the session.
    static Result<Session> open(const LoadedModel& model, uint32_t cells, const Keeping& keeping = {});

    // The sequence of a slot file, in a context of its cache types and layout with `free_cells` beside it,
    // or of `cells` in all when that is not 0.
    static Result<Session> restore(const LoadedModel& model, SlotFile slot, uint32_t cells,
                                   uint32_t free_cells, const Keeping& keeping = {});

    llama_context* context() const { return ctx_.get(); }
    const llama_model* model() const { return model_->model.get(); }
    const std::vector<llama_token>& tokens() const { return tokens_; }
    size_t cells() const { return cells_; }
    size_t room() const;

    // Appends tokens and decodes them. On failure the sequence is what it was where the model allows it.
    Status append(std::span<const llama_token> tokens, Outputs outputs);

    // The same of a text that is to be folded by `method`. Where that studies the newest tokens, what they
    // ask is heard meanwhile, for compact().
    Status read_text(std::span<const llama_token> tokens, const Method& method, ProgressBar& bar);

    // Reads a text that may be longer than the context, and folds it on the way (engine/read_in_chunks.h).
    // REQUIRES: an empty session. After a failure the session is of no more use.
    Result<CompactReport> read_in_chunks(std::span<const llama_token> tokens, const Method& method,
                                         const Budget& budget, uint64_t seed, ProgressBar& bar);

    Result<CompactReport> compact(const Method& method, const Budget& budget, uint64_t seed,
                                  ProgressBar& bar);

    // ask -> recall -> swap: appends a prompt, for the logits behind it. What it asks for of the kept folds
    // stands in the sequence from its last token on, until another prompt asks, and is no part of what is
    // saved or folded. Nothing, where there is nothing to recall or no room. On failure the sequence is what
    // it was, without recalled cells.
    Status read_prompt(std::span<const llama_token> prompt);

    // Appends a token of an answer, for its logits. Where its prompt recalled, it asks too, at its
    // AskingPace, and other cells take the place of those that stand there. Fails as append and
    // kvfold::recall do; the token may have been appended then. Hybrid models do not ask.
    Status say(llama_token token);

    struct Recalled {
        size_t cells = 0; // that stand in the sequence now
        size_t times = 0; // that the newest prompt and its answer asked
    };
    Recalled recalled() const;

    // Takes back the newest folds, as many as are kept and have room. Fails as kvfold::unfolded does.
    Status unfold();

    // What the sequence's folds replaced, beside the slot file that save() writes. Fails with
    // invalid_argument where nothing of it is kept.
    Status save_archive(const std::string& path) const;

    // streams: of the cache that will read it, 1 for a unified one; 0 = as the slot file that was restored,
    // else 1.
    Status save(const std::string& path, uint32_t streams = 0) const;

  private:
    // What is recalled until another prompt asks, or the sequence is folded or written.
    struct Recalling {
        std::vector<std::shared_ptr<const ReplacedCells>> folds; // that `sources` refers to
        std::vector<Recallable> sources;
        llama_pos place = -1; // where recalled cells stand and no others
        Recalled recalled;
        AskingPace pace; // of the answer
    };

    Status create_context();
    Status check_fits(size_t tokens) const;
    Result<SequenceState> read() const; // without recalled cells
    Status put(const SequenceState& state);
    Status drop_recalled();
    std::optional<Recalling> recalling_from(const KvSection& section) const;
    Result<KvSection> choose(const Recalling& from, const Study& asked) const;
    Status recall_while_reading(std::span<const llama_token> tokens, Recalling from);
    Status decode(std::span<const llama_token> tokens, Outputs outputs, ProgressBar* bar = nullptr,
                  Hearing* hearing = nullptr);
    CompactRequest request_for(const Method& method, const Budget& budget, uint64_t seed,
                               ProgressBar& bar) const;

    const LoadedModel* model_ = nullptr;
    Keeping keeping_;
    std::unique_ptr<TapPlace> tap_ = std::make_unique<TapPlace>(); // of ctx_
    Study heard_;                                                  // of the newest tokens; empty: nothing
    std::optional<Recalling> recalling_;
    llama_context_params params_ = {};
    ContextPtr ctx_;
    std::vector<llama_token> tokens_; // token i stands at position i, also where its cell was folded away
    std::optional<std::vector<int32_t>>
        media_;            // as the slot file that was restored had them; see state/token_area.h
    uint32_t streams_ = 1; // of the slot file that was restored
    size_t cells_ = 0;
};

} // namespace kvfold::cli
