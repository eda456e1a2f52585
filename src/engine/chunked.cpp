#include "engine/chunked.h"

#include "engine/join_cells.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <numeric>
#include <optional>

namespace kvfold {

namespace {

// What the study of a chunk reads: the chunk's own text and the newest tokens.
std::vector<llama_token> text_to_study(TokenSpan tokens, const Chunk& chunk, size_t newest) {
    std::vector<llama_token> text(tokens.begin(), tokens.end());
    for (size_t pos = 0; pos < text.size(); ++pos) {
        const auto at = static_cast<llama_pos>(pos);
        const bool in_chunk = at >= chunk.text_begin && at < chunk.text_end;
        if (!in_chunk && pos + newest < text.size()) text[pos] = LLAMA_TOKEN_NULL;
    }
    return text;
}

// Adds the heads of a chunk that begins at cell `begin` of the region and is `share` of it.
void add_heads(std::vector<HeadReport>& sum, const std::vector<HeadReport>& heads, size_t begin,
               double share) {
    for (size_t i = sum.size(); i < heads.size(); ++i)
        sum.push_back({.layer = heads[i].layer, .head = heads[i].head, .kept = {}});
    for (size_t i = 0; i < heads.size(); ++i) { // none when a ratio near 1 leaves the chunk as it is
        for (const auto figure :
             {&HeadReport::fold_residual, &HeadReport::output_error, &HeadReport::mass_error})
            sum[i].*figure += static_cast<float>(share) * heads[i].*figure;
        for (const uint32_t cell : heads[i].kept)
            sum[i].kept.push_back(static_cast<uint32_t>(begin) + cell);
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

// Brings the cells of a chunk and folds them. `step` asks for that, but still needs its tokens.
using StepFn = std::function<Result<CompactReport>(const Chunk& chunk, CompactRequest& step)>;

// All chunks, one after the other. Figures of heads become means over the cells of the region.
Result<CompactReport> fold_chunks(const std::vector<Chunk>& chunks, const Regions& regions,
                                  const CompactRequest& request, const StepFn& fold) {
    Method at_once = *request.method;
    at_once.chunk = 0;
    CompactReport report;
    for (size_t i = 0; i < chunks.size(); ++i) {
        const auto [begin, end] = std::pair(chunks[i].begin, chunks[i].end);
        CompactRequest step = request;
        step.method = &at_once;
        step.budget = chunks[i].budget;
        step.progress = [&](Stage stage, float done) {
            return goes_on(request.progress, stage,
                           (static_cast<float>(i) + done) / static_cast<float>(chunks.size()));
        };
        KVFOLD_TRY(const CompactReport done, fold(chunks[i], step));
        add_costs(report, done);
        add_heads(report.heads, done.heads, begin,
                  static_cast<double>(end - begin) / static_cast<double>(regions.region.size()));
    }
    report.bytes_before += report.bytes_after;
    report.cells_after = regions.cells_after();
    report.cells_before = report.cells_after - regions.folded + regions.region.size();
    report.regions = regions;
    return report;
}

void remove_newest(KvSection& section, size_t count) {
    std::vector<uint32_t> others(section.cells.size() - count);
    std::iota(others.begin(), others.end(), 0u);
    section = take_cells(section, others);
}

// Positions from the first cell of the tail to the last.
size_t tail_positions(const KvSection& section, const Regions& regions) {
    if (regions.tail.empty()) return 0;
    const auto pos = [&](uint32_t cell) { return section.cells[cell].pos; };
    return static_cast<size_t>(pos(regions.tail.back()) - pos(regions.tail.front())) + 1;
}

// The sequence becomes `state`, or empty.
Status put_back(llama_context* ctx, llama_seq_id seq_id, const std::optional<SequenceState>& state) {
    if (state) return write_sequence(ctx, seq_id, *state);
    if (llama_memory_seq_rm(llama_get_memory(ctx), seq_id, -1, -1)) return {};
    return fail(ErrorCode::llama, "llama.cpp could not empty sequence {}", seq_id);
}

Status check_reading(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request) {
    if (request.method->chunk == 0)
        return fail(ErrorCode::invalid_argument,
                    "method {} folds a whole sequence; chunked folds while a text is read",
                    request.method->name);
    if (llama_memory_seq_pos_max(llama_get_memory(ctx), seq_id) >= 0)
        return fail(ErrorCode::invalid_argument,
                    "sequence {} holds something: a text is read into an empty one", seq_id);
    const size_t window = window_cells(llama_get_model(ctx), llama_n_ubatch(ctx));
    if (std::min(request.tokens.size(), window) > llama_n_ctx_seq(ctx))
        return fail(
            ErrorCode::invalid_argument,
            "a context of {} cells is too small for the model's sliding window, which takes {}; give more",
            llama_n_ctx_seq(ctx), window);
    return {};
}

} // namespace

Result<CompactState> compact_chunks(llama_model* model, const SequenceState& snapshot, const Regions& regions,
                                    const CompactRequest& request) {
    const KvSection& full = snapshot.sections.front();
    KVFOLD_TRY(const std::vector<Chunk> chunks, plan_chunks(full, regions, request.method->chunk));
    if (chunks.size() > 1 && regions.tail.empty())
        return fail(ErrorCode::invalid_argument,
                    "method {} studies all {} chunks from the newest cells: keep_last must be 1 or more",
                    request.method->name, chunks.size());
    const KvSection tail = take_cells(full, regions.tail);
    SequenceState state = with_first_section(snapshot, take_cells(full, regions.head));
    std::vector<llama_token> text;
    const auto fold = [&](const Chunk& chunk, CompactRequest& step) -> Result<CompactReport> {
        append_cells(state.sections.front(), take_cells(full, chunk.cells));
        append_cells(state.sections.front(), tail);
        text = text_to_study(request.tokens, chunk, tail_positions(full, regions));
        step.tokens = text;
        KVFOLD_TRY(CompactState compact, compact_state(model, state, step));
        state = std::move(compact.state);
        if (&chunk != &chunks.back()) remove_newest(state.sections.front(), tail.cells.size());
        return std::move(compact.report);
    };
    KVFOLD_TRY(CompactReport report, fold_chunks(chunks, regions, request, fold));
    return CompactState{std::move(state), std::move(report)};
}

size_t window_cells(const llama_model* model, uint32_t n_ubatch) {
    const auto window = static_cast<size_t>(std::max(llama_model_n_swa(model), 0));
    return window == 0 ? 0 : window + n_ubatch;
}

Result<CompactReport> read_in_chunks(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request,
                                     const AppendFn& append) {
    KVFOLD_CHECK(check_reading(ctx, seq_id, request));
    KVFOLD_TRY(const ReadingPlan plan, plan_reading(request.tokens.size(), request.budget,
                                                    request.method->chunk, llama_n_ctx_seq(ctx)));
    const size_t tail = plan.regions.tail.size();
    std::vector<llama_token> text;
    std::optional<SequenceState> finished; // what the last chunk left
    size_t read = 0;
    const auto read_to = [&](size_t end) {
        const TokenSpan tokens = request.tokens.subspan(read, end - read);
        read = end;
        return append(tokens);
    };
    const auto fold = [&](const Chunk& chunk, CompactRequest& step) -> Result<CompactReport> {
        KVFOLD_CHECK(read_to(static_cast<size_t>(chunk.text_end) + tail));
        text = text_to_study(request.tokens.first(read), chunk, tail);
        step.tokens = text;
        KVFOLD_TRY(CompactReport report, compact_sequence(ctx, seq_id, step));
        KVFOLD_TRY(finished, read_sequence(ctx, seq_id));
        return report;
    };
    const auto read_all = [&]() -> Result<CompactReport> {
        KVFOLD_TRY(CompactReport report, fold_chunks(plan.chunks, plan.regions, request, fold));
        if (plan.chunks.empty()) { // ratio 1
            KVFOLD_CHECK(read_to(request.tokens.size()));
            report.bytes_before = report.bytes_after = llama_state_seq_get_size(ctx, seq_id);
        }
        return report;
    };
    Result<CompactReport> report = read_all();
    if (!report) KVFOLD_CHECK(put_back(ctx, seq_id, finished));
    return report;
}

} // namespace kvfold
