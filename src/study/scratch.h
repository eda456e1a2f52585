// The scratch context: a second context of the same model that holds a copy of the sequence, where a study
// may prefill and sample what it likes. It lives only during compaction.
#pragma once

#include "base/no_throw.h"
#include "base/progress.h"
#include "model/adapters.h"
#include "model/context.h"
#include "model/probe.h"
#include "state/sequence_state.h"
#include "study/query_tap.h"

#include <memory>

namespace kvfold {

inline constexpr uint32_t kScratchBatch = 512; // tokens that a graph evaluation takes at once

struct ScratchParams {
    llama_context_params context; // as the user's context was made; sizes, types and callbacks are replaced
    int threads = 0;              // for decoding; 0 = as `context` says
    uint32_t spare_cells = 0;     // beyond those of the sequence
    Adapters adapters = {};       // of the user's context
    uint32_t sequences = 1;       // the snapshot is sequence 0; each may have logits of one token a batch
};

class Scratch {
  public:
    // Opens a context that holds `snapshot`, which must outlive the scratch. `tap` may be null.
    // The tap must outlive the scratch. `progress` is asked between graph nodes, so that cancelling is
    // prompt.
    static Result<Scratch> open(llama_model* model, const AttentionMap& map, const SequenceState& snapshot,
                                const ScratchParams& params, QueryTap* tap, const ProgressFn& progress);

    // Says how far the work is; fails with `cancelled` when the caller wants no more of it.
    Status report(Stage stage, float done);

    llama_pos end() const { return end_; } // position after the sequence's last one

    // Puts the sequence back to the snapshot, whatever was decoded since.
    Status rewind();

    // The same, and then without its positions >= pos. REQUIRES: pos >= first_plain_position of the snapshot,
    // or 0.
    Status rewind_to(llama_pos pos);

    // Decodes tokens behind what the sequence holds now, starting at `first_pos`, their queries to the tap.
    Status prefill(std::span<const llama_token> tokens, llama_pos first_pos);

    // Decodes a batch of any sequences, its queries to the tap.
    Status listen(std::span<const BatchToken> batch);

    llama_context* context() const { return ctx_.get(); }

  private:
    struct Watch { // at a fixed address: the context points to it
        ProgressFn progress;
        Stage stage = Stage::study;
        float done = 0;
        KeptException kept = {};
    };
    Scratch() = default;
    static bool wants_to_stop(void* watch);
    // Runs `decode` with the tap open, and throws what a callback threw meanwhile.
    template <class Decode> Status listening(const Decode& decode);

    std::unique_ptr<Watch> watch_; // before ctx_, which points to it
    ContextPtr ctx_;
    std::shared_ptr<const SequenceState> state_; // the snapshot, in the layout of this context
    QueryTap* tap_ = nullptr;
    llama_pos end_ = 0;
    bool cut_ = false;       // cells of the snapshot itself are gone
    bool rolls_back_ = true; // a plain cache forgets by position; windows and recurrent states do not
};

} // namespace kvfold
