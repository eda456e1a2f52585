#include "state/slot_file.h"

#include "base/file.h"
#include "state/checkpoints.h"

#include <llama.h>

#include <algorithm>
#include <cstring>

namespace kvfold {
namespace {

constexpr uint32_t kArchiveMagic = 0x6166766b;        // "kvfa", docs/state-format.md
constexpr size_t kHeaderBytes = 3 * sizeof(uint32_t); // magic, version, tokens

uint32_t u32_at(std::span<const uint8_t> bytes, size_t offset) {
    uint32_t value = 0;
    std::memcpy(&value, bytes.data() + offset, sizeof(value));
    return value;
}

} // namespace

Result<SlotFile> decode_slot(std::span<const uint8_t> file) {
    const std::span<const uint8_t> bytes = without_checkpoints(file);
    if (bytes.size() < kHeaderBytes)
        return fail(ErrorCode::corrupt, "slot header, offset 0: expected {} bytes, got {}", kHeaderBytes,
                    bytes.size());
    if (u32_at(bytes, 0) == LLAMA_SESSION_MAGIC)
        return fail(ErrorCode::unsupported,
                    "slot header, offset 0: this is a whole session (llama_state_save_file), "
                    "expected a sequence (llama_state_seq_save_file)");
    if (u32_at(bytes, 0) == kArchiveMagic)
        return fail(ErrorCode::unsupported,
                    "slot header, offset 0: this is an archive; give the slot file that it was written with");
    if (u32_at(bytes, 0) != LLAMA_STATE_SEQ_MAGIC)
        return fail(ErrorCode::corrupt, "slot header, offset 0: expected magic {:#010x}, got {:#010x}",
                    LLAMA_STATE_SEQ_MAGIC, u32_at(bytes, 0));
    const uint32_t version = u32_at(bytes, 4);
    if (version != kFirstVersion && version != kVersionWithRotation)
        return fail(ErrorCode::unsupported, "slot header, offset 4: expected version {} or {}, got {}",
                    kFirstVersion, kVersionWithRotation, version);
    const size_t token_count = u32_at(bytes, 8);
    if (token_count > (bytes.size() - kHeaderBytes) / sizeof(int32_t))
        return fail(ErrorCode::corrupt, "slot header, offset 8: expected {} tokens, but only {} bytes follow",
                    token_count, bytes.size() - kHeaderBytes);

    SlotFile slot;
    std::vector<int32_t> words(token_count);
    const size_t token_bytes = token_count * sizeof(int32_t);
    if (token_bytes > 0) std::memcpy(words.data(), bytes.data() + kHeaderBytes, token_bytes);
    KVFOLD_TRY(slot.text, unpack_tokens(words));
    const size_t state_offset = kHeaderBytes + token_bytes;
    KVFOLD_TRY(slot.state, decode_sequence(bytes.subspan(state_offset), state_offset, version));
    return slot;
}

std::vector<uint8_t> encode_slot(const SlotFile& slot) {
    const std::vector<int32_t> words = pack_tokens(slot.text);
    const uint32_t header[] = {LLAMA_STATE_SEQ_MAGIC, slot.state.version,
                               static_cast<uint32_t>(words.size())};
    static_assert(sizeof(header) == kHeaderBytes);
    const std::vector<uint8_t> state = encode_sequence(slot.state);
    const size_t token_bytes = words.size() * sizeof(int32_t);
    std::vector<uint8_t> bytes(kHeaderBytes + token_bytes);
    std::memcpy(bytes.data(), header, kHeaderBytes);
    if (token_bytes > 0) std::memcpy(bytes.data() + kHeaderBytes, words.data(), token_bytes);
    bytes.insert(bytes.end(), state.begin(), state.end());
    return bytes;
}

Status check_tokens(const SlotFile& slot, int32_t vocabulary) {
    const std::vector<int32_t>& tokens = slot.text.tokens;
    for (const int32_t token : tokens) {
        const bool is_of_media = token == LLAMA_TOKEN_NULL && slot.text.has_media();
        if (!is_of_media && (token < 0 || token >= vocabulary))
            return fail(ErrorCode::invalid_argument, "token {} is not in the model's vocabulary of {}", token,
                        vocabulary);
    }
    const int32_t end = end_position(slot.state.sections.front());
    if (tokens.size() == static_cast<size_t>(end)) return {};
    return fail(ErrorCode::invalid_argument, "{} tokens for positions up to {}; {}", tokens.size(), end - 1,
                slot.text.has_media()
                    ? "its images take fewer positions than tokens, which kvfold cannot read"
                    : "give one token for each position");
}

Result<SlotFile> read_slot_file(const std::filesystem::path& path) {
    KVFOLD_TRY(const std::vector<uint8_t> bytes, read_file(path));
    Result<SlotFile> slot = decode_slot(bytes);
    if (!slot) return fail(slot.error().code, "{}: {}", path.string(), slot.error().message);
    return slot;
}

Status write_slot_file(const std::filesystem::path& path, const SlotFile& slot) {
    return write_file(path, encode_slot(slot));
}

} // namespace kvfold
