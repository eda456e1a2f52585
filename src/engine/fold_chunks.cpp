#include "engine/fold_chunks.h"

#include "fit/join_cells.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

void add_effort(CompactReport& sum, const CompactReport& step, double share) {
    sum.effort += static_cast<float>(share) * step.effort;
    sum.expected.study += share * step.expected.study;
    sum.expected.solve += share * step.expected.solve;
}

// Adds the heads of a chunk that begins at cell `begin` of the region and is `share` of it.
void add_heads(std::vector<HeadReport>& sum, const std::vector<HeadReport>& heads, size_t begin,
               double share) {
    for (size_t i = sum.size(); i < heads.size(); ++i)
        sum.push_back({.layer = heads[i].layer, .head = heads[i].head, .kept = {}});
    for (size_t i = 0; i < heads.size(); ++i) { // none when a ratio near 1 leaves the chunk as it is
        for (const auto figure :
             {&HeadReport::absorb_residual, &HeadReport::output_error, &HeadReport::mass_error})
            sum[i].*figure += static_cast<float>(share) * heads[i].*figure;
        sum[i].neutral += heads[i].neutral;
        for (const uint32_t cell : heads[i].kept)
            sum[i].kept.push_back(static_cast<uint32_t>(begin) + cell);
    }
}

void add_figures(std::vector<Figure>& sum, const std::vector<Figure>& figures) {
    for (const Figure& figure : figures) {
        const auto known = std::ranges::find(sum, figure.name, &Figure::name);
        if (known == sum.end())
            sum.push_back(figure);
        else
            known->value += figure.value;
    }
}

void add_costs(CompactReport& sum, const CompactReport& step) {
    sum.bytes_before += step.bytes_before - step.bytes_after; // what this step took away
    sum.bytes_after = step.bytes_after;
    sum.study_tokens += step.study_tokens;
    for (const auto seconds : {&CompactReport::snapshot_s, &CompactReport::study_s, &CompactReport::solve_s,
                               &CompactReport::swap_s})
        sum.*seconds += step.*seconds;
}

void remove_newest(KvSection& section, size_t count) {
    std::vector<uint32_t> others(section.cells.size() - count);
    std::iota(others.begin(), others.end(), 0u);
    section = take_cells(section, others);
}

} // namespace

Result<CompactReport> fold_chunks(std::span<const Chunk> chunks, const Regions& regions,
                                  const CompactRequest& request, const StepFn& fold) {
    CompactReport report;
    uint32_t slots = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
        CompactRequest step = request;
        step.budget = chunks[i].budget;
        step.progress = [&](Stage stage, float done) {
            return goes_on(request.progress, stage,
                           (static_cast<float>(i) + done) / static_cast<float>(chunks.size()));
        };
        KVFOLD_TRY(const CompactReport done, fold(chunks[i], step));
        const auto cells = static_cast<double>(chunks[i].end - chunks[i].begin);
        const double share = cells / static_cast<double>(regions.region.size());
        add_costs(report, done);
        add_effort(report, done, share);
        add(report.solved_on, done.solved_on);
        add_heads(report.heads, done.heads, chunks[i].begin, share);
        add_figures(report.figures, done.figures);
        if (!done.region_positions.empty()) {
            report.region_positions.resize(chunks[i].begin);
            report.region_positions.insert(report.region_positions.end(), done.region_positions.begin(),
                                           done.region_positions.end());
        }
        slots += done.regions.folded;
    }
    report.bytes_before += report.bytes_after;
    report.regions = regions;
    report.regions.folded = slots;
    report.cells_before = regions.cells_before();
    report.cells_after = report.regions.cells_after();
    return report;
}

std::vector<llama_token> text_to_study(TokenSpan tokens, const Chunk& chunk, size_t newest) {
    std::vector<llama_token> text(tokens.begin(), tokens.end());
    for (size_t pos = 0; pos < text.size(); ++pos) {
        const auto at = static_cast<llama_pos>(pos);
        const bool in_chunk = at >= chunk.text_begin && at < chunk.text_end;
        if (!in_chunk && pos + newest < text.size()) text[pos] = LLAMA_TOKEN_NULL;
    }
    return text;
}

ChunkedSnapshot::ChunkedSnapshot(const SequenceState& snapshot, const Regions& regions,
                                 std::span<const Chunk> chunks)
    : snapshot_(snapshot), regions_(regions), chunks_(chunks) {
    if (chunks.size() > 1)
        state_ = with_first_section(snapshot, take_cells(snapshot.sections.front(), regions.head));
}

Result<ChunkedSnapshot::Step> ChunkedSnapshot::bring(const Chunk& chunk) {
    if (!state_) return Step{&snapshot_, regions_};
    const KvSection& full = snapshot_.sections.front();
    KvSection& now = state_->sections.front();
    append_cells(now, take_cells(full, chunk.cells));
    append_cells(now, take_cells(full, regions_.tail));
    KVFOLD_TRY(Regions regions, plan_regions(now, chunk.budget, Keep::fit));
    return Step{&*state_, std::move(regions)};
}

void ChunkedSnapshot::put_back(const Chunk& chunk, SequenceState folded) {
    state_ = std::move(folded);
    if (&chunk != &chunks_.back()) remove_newest(state_->sections.front(), regions_.tail.size());
}

size_t ChunkedSnapshot::tail_positions() const {
    if (regions_.tail.empty()) return 0;
    const auto pos = [&](uint32_t cell) { return snapshot_.sections.front().cells[cell].pos; };
    return static_cast<size_t>(pos(regions_.tail.back()) - pos(regions_.tail.front())) + 1;
}

} // namespace kvfold
