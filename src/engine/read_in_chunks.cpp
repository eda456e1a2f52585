#include "engine/read_in_chunks.h"

#include "base/no_throw.h"
#include "engine/fold_chunks.h"
#include "engine/fold_once.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <optional>

namespace kvfold {

namespace {

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

// A text on its way into a sequence.
class Reading {
  public:
    Reading(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request, const AppendFn& append)
        : ctx_(ctx), seq_id_(seq_id), request_(request), append_(append) {}

    Result<CompactReport> run() {
        KVFOLD_TRY(const ReadingPlan plan, plan_reading(request_.tokens.size(), request_.budget,
                                                        request_.method->chunk, llama_n_ctx_seq(ctx_)));
        const size_t tail = plan.regions.tail.size();
        const auto fold = [&](const Chunk& chunk, CompactRequest& step) {
            return read_chunk(chunk, tail, step);
        };
        KVFOLD_TRY(CompactReport report, fold_chunks(plan.chunks, plan.regions, request_, fold));
        if (plan.chunks.empty()) { // ratio 1
            KVFOLD_CHECK(read_to(request_.tokens.size()));
            report.bytes_before = report.bytes_after = llama_state_seq_get_size(ctx_, seq_id_);
        }
        return report;
    }

    Status undo_unfinished() { return put_back(ctx_, seq_id_, finished_); }

  private:
    Status read_to(size_t end) {
        const TokenSpan tokens = request_.tokens.subspan(read_, end - read_);
        read_ = end;
        return append_(tokens);
    }

    Result<CompactReport> read_chunk(const Chunk& chunk, size_t tail, CompactRequest& step) {
        KVFOLD_CHECK(read_to(static_cast<size_t>(chunk.text_end) + tail));
        const std::vector<llama_token> text = text_to_study(request_.tokens.first(read_), chunk, tail);
        step.tokens = text;
        const auto fold = [&](const SequenceState& snapshot) -> Result<CompactState> {
            KVFOLD_TRY(const Regions regions,
                       plan_regions(snapshot.sections.front(), chunk.budget, step.method->keep));
            return fold_once(model_of(ctx_), snapshot, regions, step);
        };
        KVFOLD_TRY(CompactReport report, fold_in_place(ctx_, seq_id_, step, fold));
        KVFOLD_TRY(finished_, read_sequence(ctx_, seq_id_));
        return report;
    }

    llama_context* ctx_;
    llama_seq_id seq_id_;
    CompactRequest request_;
    const AppendFn& append_;
    std::optional<SequenceState> finished_; // what the last chunk left
    size_t read_ = 0;                       // tokens
};

} // namespace

size_t window_cells(const llama_model* model, uint32_t n_ubatch) {
    const auto window = static_cast<size_t>(std::max(llama_model_n_swa(model), 0));
    return window == 0 ? 0 : window + n_ubatch;
}

Result<CompactReport> read_in_chunks(llama_context* ctx, llama_seq_id seq_id, const CompactRequest& request,
                                     const AppendFn& append) {
    return without_throwing([&]() -> Result<CompactReport> {
        KVFOLD_CHECK(check_reading(ctx, seq_id, request));
        Reading reading(ctx, seq_id, with_threads_of(ctx, request), append);
        Result<CompactReport> report = without_throwing([&] { return reading.run(); });
        if (report) return report;
        if (const Status undone = without_throwing([&] { return reading.undo_unfinished(); }); !undone)
            return fail(ErrorCode::lost, "{}; and then {}", report.error().message, undone.error().message);
        return report;
    });
}

} // namespace kvfold
