#include "state/live_sequence.h"

#include <algorithm>
#include <cstring>

namespace kvfold {
namespace {

// Memory form of a state: a u32 magic and the sequence id stand before what files hold. The magic is not in
// llama.h, so it is never written by us but taken over from what llama.cpp gives, which it does for an empty
// sequence too.
constexpr size_t kMemoryHeaderBytes = 8;

// The library asserts on sequence ids out of range, or takes them as "all": look first.
Status check_sequence_id(llama_context* ctx, llama_seq_id seq_id) {
    if (ctx == nullptr) return fail(ErrorCode::invalid_argument, "no llama_context given");
    if (seq_id < 0 || static_cast<uint32_t>(seq_id) >= llama_n_seq_max(ctx))
        return fail(ErrorCode::invalid_argument, "sequence {} does not exist: the context has {} (0 and up)",
                    seq_id, llama_n_seq_max(ctx));
    if (llama_get_memory(ctx) == nullptr)
        return fail(ErrorCode::unsupported, "this model keeps no cache, there is nothing to fold");
    return {};
}

// The sequence in the memory form.
Result<std::vector<uint8_t>> get_blob(llama_context* ctx, llama_seq_id seq_id) {
    std::vector<uint8_t> blob(llama_state_seq_get_size(ctx, seq_id));
    const size_t written = llama_state_seq_get_data(ctx, blob.data(), blob.size(), seq_id);
    if (written != blob.size() || blob.size() < kMemoryHeaderBytes)
        return fail(ErrorCode::llama, "llama.cpp gave {} of {} bytes of the state of sequence {}", written,
                    blob.size(), seq_id);
    return blob;
}

// Sections without cells leave a sequence as it is when they are read, hence the removal before.
bool set_blob(llama_context* ctx, llama_seq_id seq_id, const std::vector<uint8_t>& blob) {
    return llama_memory_seq_rm(llama_get_memory(ctx), seq_id, -1, -1) &&
           llama_state_seq_set_data(ctx, blob.data(), blob.size(), seq_id) == blob.size();
}

// Of the cache that the state is of, as its first section says.
uint32_t streams_of(const std::vector<uint8_t>& blob) {
    uint32_t streams = 0;
    if (blob.size() >= kMemoryHeaderBytes + sizeof streams)
        std::memcpy(&streams, blob.data() + kMemoryHeaderBytes, sizeof streams);
    return streams;
}

size_t most_cells(const SequenceState& state) {
    size_t cells = 0;
    for (const KvSection& section : state.sections)
        cells = std::max(cells, section.cells.size());
    return cells;
}

} // namespace

Result<SequenceState> read_sequence(llama_context* ctx, llama_seq_id seq_id) {
    KVFOLD_CHECK(check_sequence_id(ctx, seq_id));
    KVFOLD_TRY(const std::vector<uint8_t> blob, get_blob(ctx, seq_id));
    KVFOLD_TRY(SequenceState state, decode_blob(blob));
    if (most_cells(state) == 0)
        return fail(ErrorCode::invalid_argument, "sequence {} is empty: decode something into it first",
                    seq_id);
    return state;
}

Result<SequenceState> decode_blob(std::span<const uint8_t> blob) {
    const std::span<const uint8_t> behind = blob.subspan(std::min(blob.size(), kMemoryHeaderBytes));
    return decode_sequence(behind, kMemoryHeaderBytes);
}

Status write_sequence(llama_context* ctx, llama_seq_id seq_id, const SequenceState& state) {
    KVFOLD_CHECK(check_sequence_id(ctx, seq_id));
    KVFOLD_TRY(const std::vector<uint8_t> old_blob, get_blob(ctx, seq_id));

    std::vector<uint8_t> blob(old_blob.begin(), old_blob.begin() + kMemoryHeaderBytes);
    const std::vector<uint8_t> body = encode_sequence(state, streams_of(old_blob));
    blob.insert(blob.end(), body.begin(), body.end());
    if (set_blob(ctx, seq_id, blob)) return {};

    const bool restored = set_blob(ctx, seq_id, old_blob);
    return fail(restored ? ErrorCode::llama : ErrorCode::lost,
                "llama.cpp refused {} cells for sequence {} (room for {}; its log says why); {}",
                most_cells(state), seq_id, llama_n_ctx_seq(ctx),
                restored ? "the sequence holds what it held before"
                         : "putting the old cells back failed too, the sequence has to be computed again");
}

Status add_cells(llama_context* ctx, llama_seq_id seq_id, const KvSection& cells, uint32_t version) {
    KVFOLD_CHECK(check_sequence_id(ctx, seq_id));
    // In such caches llama.cpp keeps books of all sequences that it can have, whatever n_seq_max is.
    const auto spare = static_cast<llama_seq_id>(llama_max_parallel_sequences()) - 1;
    llama_memory_t memory = llama_get_memory(ctx);
    if (spare == seq_id || llama_memory_seq_pos_max(memory, spare) >= 0)
        return fail(ErrorCode::busy, "sequence {}, through which cells are added, is in use", spare);
    KVFOLD_TRY(const std::vector<uint8_t> empty, get_blob(ctx, spare));
    KVFOLD_TRY(SequenceState state, decode_blob(empty));
    state.version = version;
    state.sections.front() = cells;
    std::vector<uint8_t> blob(empty.begin(), empty.begin() + kMemoryHeaderBytes);
    const std::vector<uint8_t> body = encode_sequence(state, streams_of(empty));
    blob.insert(blob.end(), body.begin(), body.end());
    const bool are_set = set_blob(ctx, spare, blob);
    if (are_set) llama_memory_seq_cp(memory, spare, seq_id, -1, -1);
    llama_memory_seq_rm(memory, spare, -1, -1);
    if (are_set) return {};
    return fail(ErrorCode::llama, "llama.cpp refused {} more cells for sequence {} (its log says why)",
                cells.cells.size(), seq_id);
}

} // namespace kvfold
