// The state of a sequence, which every test that has a sequence can read.
#pragma once

#include "state/live_sequence.h"

#include <gtest/gtest.h>

namespace kvfold::testing {

inline SequenceState snapshot_of(llama_context* ctx, llama_seq_id seq_id = 0) {
    auto state = read_sequence(ctx, seq_id);
    EXPECT_TRUE(state) << state.error().message;
    return state ? *std::move(state) : SequenceState{};
}

} // namespace kvfold::testing
