// What llama-server appends to a slot file since build 11549 or a little earlier: its checkpoints of sliding
// windows and recurrent states. They are of the sequence as it was saved, and no part of its state.
#pragma once

#include <cstdint>
#include <span>

namespace kvfold {

// The bytes of a slot file in front of its checkpoints; all of them where it has none.
//
//   "SCKP", u32 version = 1, u32 count, each: i64 tokens, i32 first and last position, three times u64 n and
//   n bytes
std::span<const uint8_t> without_checkpoints(std::span<const uint8_t> slot);

} // namespace kvfold
