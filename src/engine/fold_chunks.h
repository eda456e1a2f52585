// The one loop over the chunks of a region; most methods have a single chunk.
#pragma once

#include "engine/chunks.h"
#include "engine/request.h"

#include <functional>
#include <optional>

namespace kvfold {

// Folds one chunk. `step` is the request for it, its tokens not yet given.
using StepFn = std::function<Result<CompactReport>(const Chunk& chunk, CompactRequest& step)>;

// All chunks, one after the other; the report is of all of them: times, tokens, bytes and figures are sums,
// the figures of heads are means over the cells of the region. regions: of the whole. Fails as `fold` does.
Result<CompactReport> fold_chunks(std::span<const Chunk> chunks, const Regions& regions,
                                  const CompactRequest& request, const StepFn& fold);

// What the study of a chunk reads: its own text and the newest `newest` positions; LLAMA_TOKEN_NULL
// elsewhere.
std::vector<llama_token> text_to_study(TokenSpan tokens, const Chunk& chunk, size_t newest);

// A snapshot while its chunks are folded in order, each once. Its sliding window and recurrent state stand at
// the end of the sequence, and so does every study. A single chunk is folded in the snapshot as it stands, of
// which no copy is made. What it is made of must outlive it.
class ChunkedSnapshot {
  public:
    ChunkedSnapshot(const SequenceState& snapshot, const Regions& regions, std::span<const Chunk> chunks);

    struct Step {
        const SequenceState* state; // head, what earlier chunks became, chunk, tail
        Regions regions;            // of that state
    };
    Result<Step> bring(const Chunk& chunk);
    void put_back(const Chunk& chunk, SequenceState folded);

    // When all chunks are folded.
    SequenceState take() { return state_ ? *std::move(state_) : snapshot_; }

    // Positions from the first cell of the tail to the last.
    size_t tail_positions() const;

  private:
    const SequenceState& snapshot_;
    const Regions& regions_;
    std::span<const Chunk> chunks_;
    std::optional<SequenceState> state_; // nothing yet where the snapshot stands for it
};

} // namespace kvfold
