// A prompt asks while it is read: its tokens but the last one, which is read behind what they ask for.
// Reading them once more behind it changed nothing (docs/experiments/2026-12-01-prompts-ask.md).
//
//   ask -> recall -> swap
#pragma once

#include "study/queries.h"
#include "study/query_tap.h"
#include "study/sources.h"

#include <functional>

namespace kvfold {

inline constexpr size_t kHeardOfPrompt = 128; // newest tokens whose queries are held, all at once
inline constexpr size_t kAskingOfPrompt = 32; // of them, at most: a scan takes as long as there are queries
inline constexpr size_t kFewestAsking = 8;    // a server's prompt may go on with fewer: those before ask too

// Of so many tokens that were heard those that ask: the newest half, and the others evenly. What is asked for
// may stand at the end of a prompt or at its beginning.
std::vector<Index> asking_tokens(size_t heard);
Study asked_by(const Study& heard); // their queries

// Reads a prompt with `read`, in one part or two, and hears what it asks. The tap and the layers are those of
// the context that it is read in. Fails as `read` does.
Result<Study> ask_while_reading(TapPlace& tap, const std::vector<AttentionLayer>& layers, TokenSpan prompt,
                                const std::function<Status(TokenSpan)>& read);

} // namespace kvfold
