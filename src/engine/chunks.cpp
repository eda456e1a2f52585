#include "engine/chunks.h"

#include "state/folded_region.h"

#include <algorithm>
#include <utility>

namespace kvfold {

namespace {

// The position behind all that is not tail.
llama_pos end_of_text(const KvSection& section, const Regions& regions) {
    if (!regions.tail.empty()) return section.cells[regions.tail.front()].pos;
    return end_position(section);
}

// The last position of the text that each cell holds a part of. Folded cells share what they hold in their
// order.
std::vector<llama_pos> ends_of_cells(const KvSection& section) {
    const FoldedRegion folded = folded_region(section);
    std::vector<llama_pos> ends;
    llama_pos seen = 0;
    for (const CellMeta& cell : section.cells) {
        const bool is_folded = cell.pos < folded.end;
        ends.push_back(is_folded ? static_cast<llama_pos>(int64_t{folded.end} * ++seen / folded.cells) - 1
                                 : cell.pos);
    }
    return ends;
}

} // namespace

size_t fewer_at_once(size_t region, size_t most) {
    const size_t now = most == 0 ? region : std::min(region, most);
    const size_t half = (now + 1) / 2;
    return half < kLeastChunk ? 0 : half;
}

KvSection cells_of_text(size_t tokens) {
    KvSection section;
    section.cells.resize(tokens);
    for (size_t pos = 0; pos < tokens; ++pos)
        section.cells[pos].pos = static_cast<int32_t>(pos);
    return section;
}

Result<std::vector<Chunk>> plan_chunks(const KvSection& section, const Regions& regions, size_t most) {
    const std::vector<llama_pos> ends = ends_of_cells(section);
    const size_t region = regions.region.size();
    const size_t count = most == 0 ? std::min<size_t>(region, 1) : (region + most - 1) / most;
    const auto folded_to = [&](size_t cell) { return regions.folded * cell / region; };
    std::vector<Chunk> chunks(count);
    size_t kept = regions.head.size(), pinned = 0; // cells in front of the chunk
    llama_pos text_begin = 0;
    for (size_t i = 0; i < count; ++i) {
        Chunk& chunk = chunks[i];
        const bool is_last = i + 1 == count;
        chunk.begin = region * i / count;
        chunk.end = region * (i + 1) / count;
        const size_t folded = folded_to(chunk.end) - folded_to(chunk.begin);
        if (folded < 2 && count > 1)
            return fail(
                ErrorCode::invalid_argument,
                "{} folded cells are too few for {} chunks; lower the ratio or take a method that folds "
                "all at once",
                regions.folded, count);
        const auto first = regions.region.begin();
        chunk.cells.assign(first + std::ptrdiff_t(chunk.begin), first + std::ptrdiff_t(chunk.end));
        chunk.text_end = is_last ? end_of_text(section, regions) : ends[chunk.cells.back()] + 1;
        chunk.text_begin = std::exchange(text_begin, chunk.text_end);
        const auto stands_here = [&](uint32_t cell) { return is_last || ends[cell] < chunk.text_end; };
        while (pinned < regions.pinned.size() && stands_here(regions.pinned[pinned]))
            chunk.cells.push_back(regions.pinned[pinned++]);
        const size_t others = kept + pinned + regions.tail.size();
        chunk.cells_before = others + chunk.end - chunk.begin;
        chunk.budget = exact_budget(chunk.cells_before, others + folded, kept, regions.tail.size());
        chunk.budget.untouched = static_cast<int>(regions.untouched);
        kept += folded;
    }
    return chunks;
}

Result<ReadingPlan> plan_reading(size_t tokens, const Budget& budget, size_t most, size_t room) {
    const KvSection text = cells_of_text(tokens);
    ReadingPlan plan;
    KVFOLD_TRY(plan.regions, plan_regions(text, budget, Keep::fit));
    plan.cells = plan.regions.cells_after();
    const size_t region = plan.regions.region.size(), least = std::min(region, kLeastChunk);
    if (plan.cells + least > room)
        return fail(
            ErrorCode::invalid_argument,
            "{} tokens at ratio {:g} become {} cells, and folding them on the way takes {} more: a context "
            "of {} is too small; raise the ratio or the context",
            tokens, budget.ratio, plan.cells, least, room);
    KVFOLD_TRY(plan.chunks, plan_chunks(text, plan.regions, std::min(most, room - plan.cells)));
    for (const Chunk& chunk : plan.chunks)
        plan.cells = std::max(plan.cells, chunk.cells_before);
    return plan;
}

} // namespace kvfold
