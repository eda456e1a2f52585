// Slot files: what llama_state_seq_save_file and llama-server's /slots?action=save write.
#pragma once

#include "state/sequence_state.h"
#include "state/token_area.h"

#include <filesystem>

namespace kvfold {

struct SlotFile {
    TokenArea text; // of the whole sequence, also the tokens whose cells were folded away
    SequenceState state;
};

Result<SlotFile> decode_slot(std::span<const uint8_t> bytes);
std::vector<uint8_t> encode_slot(const SlotFile& slot);

// Whether kvfold takes it back: a token of the vocabulary, or of an image, for each position up to the last
// one. Fails with invalid_argument.
Status check_tokens(const SlotFile& slot, int32_t vocabulary);

// Errors name the file. Writing is atomic: the old file stays until the new one is complete on disk.
Result<SlotFile> read_slot_file(const std::filesystem::path& path);
Status write_slot_file(const std::filesystem::path& path, const SlotFile& slot);

} // namespace kvfold
