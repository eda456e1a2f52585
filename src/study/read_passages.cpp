#include "study/read_passages.h"

#include <algorithm>

namespace kvfold {

namespace {

using Passages = std::span<const Passage>;

constexpr size_t kMostTogether = 8; // sequences: more make the caches of sliding windows large

// Passages in a row that one batch reads. Only those behind the sequence: the others go back in it, each as
// far as it needs. The queries come in the order of the batch, as long as llama.cpp does not split it by
// sequences: it does so where a model is recurrent, and nowhere else while the cache has room for the batch.
std::vector<Passages> group(Passages passages, llama_pos end, const AttentionMap& map) {
    std::vector<Passages> groups;
    size_t first = 0, tokens = 0; // of the newest group
    for (size_t i = 0; i < passages.size(); ++i) {
        tokens += passages[i].tokens.size();
        const bool fits = i > first && tokens <= kScratchBatch && i - first < kMostTogether &&
                          !map.has_recurrent && passages[first].first_pos >= end &&
                          passages[i].first_pos >= end;
        if (!fits) {
            first = i;
            tokens = passages[i].tokens.size();
            groups.emplace_back();
        }
        groups.back() = passages.subspan(first, i + 1 - first);
    }
    return groups;
}

Status read_alone(Scratch& scratch, const Passage& passage) {
    KVFOLD_CHECK(passage.first_pos < scratch.end() ? scratch.rewind_to(passage.first_pos) : scratch.rewind());
    return scratch.prefill(passage.tokens, passage.first_pos);
}

// Each in a sequence of its own, which begins with the cells of the snapshot.
Status read_together(Scratch& scratch, Passages passages) {
    KVFOLD_CHECK(scratch.rewind());
    llama_memory_t memory = llama_get_memory(scratch.context());
    const auto last = static_cast<llama_seq_id>(passages.size());
    std::vector<BatchToken> batch;
    for (llama_seq_id seq_id = 1; seq_id <= last; ++seq_id) {
        llama_memory_seq_cp(memory, 0, seq_id, -1, -1);
        llama_pos pos = passages[static_cast<size_t>(seq_id) - 1].first_pos;
        for (const llama_token token : passages[static_cast<size_t>(seq_id) - 1].tokens)
            batch.push_back({token, pos++, seq_id, /*output=*/false});
    }
    Status status = scratch.listen(batch);
    for (llama_seq_id seq_id = 1; seq_id <= last; ++seq_id)
        llama_memory_seq_rm(memory, seq_id, -1, -1);
    return status;
}

} // namespace

Index count_tokens(Passages passages) {
    Index count = 0;
    for (const Passage& passage : passages)
        count += std::ssize(passage.tokens);
    return count;
}

ReadingRoom room_to_read(Passages passages, const SequenceState& cache, const AttentionMap& map) {
    const std::vector<CellMeta>& cells = cache.sections.front().cells;
    ReadingRoom room;
    for (const Passages each : group(passages, end_position(cache.sections.front()), map)) {
        const auto stays = [&](const CellMeta& cell) { return cell.pos < each.front().first_pos; };
        const auto kept = static_cast<size_t>(std::ranges::count_if(cells, stays));
        const auto tokens = static_cast<size_t>(count_tokens(each));
        const size_t needed = kept + tokens;
        // A window that slides lets go of its old cells only when a batch is through.
        const size_t spare =
            std::max(needed - std::min(needed, cells.size()), std::min<size_t>(tokens, kScratchBatch));
        room.cells = std::max(room.cells, static_cast<uint32_t>(spare));
        if (each.size() > 1)
            room.sequences = std::max(room.sequences, static_cast<uint32_t>(1 + each.size()));
    }
    return room;
}

Status read_passages(Scratch& scratch, Passages passages, const AttentionMap& map) {
    const auto total = static_cast<float>(count_tokens(passages));
    Index done = 0;
    for (const Passages each : group(passages, scratch.end(), map)) {
        KVFOLD_CHECK(scratch.report(Stage::study, static_cast<float>(done) / total));
        KVFOLD_CHECK(each.size() == 1 ? read_alone(scratch, each.front()) : read_together(scratch, each));
        done += count_tokens(each);
    }
    return {};
}

} // namespace kvfold
