#include "measure/chat_lane.h"

#include "base/timer.h"
#include "engine/fold_task.h"
#include "measure/forced_answer.h"
#include "measure/peak_memory.h"
#include "state/live_sequence.h"

namespace kvfold {

namespace {

constexpr llama_seq_id kOnlySequence[] = {0};

} // namespace

Result<ChatLane> ChatLane::open(llama_model* model, const EvalCache& cache, const CompactRequest& compact,
                                size_t cells, size_t spare) {
    ChatLane lane;
    lane.model_ = model;
    lane.compact_ = compact;
    lane.limit_ = cells;
    llama_context_params& params = lane.compact_.context;
    params.type_k = cache.type_k;
    params.type_v = cache.type_v;
    params.n_ctx = static_cast<uint32_t>(cells + spare);
    KVFOLD_TRY(lane.ctx_, new_context(model, params, compact.adapters));
    return lane;
}

void ChatLane::fold_with(const Method& method, double ratio, size_t archive_bytes) {
    archive_ = Archive(archive_bytes);
    policy_.emplace();
    policy_->method = compact_.method = &method;
    policy_->ratio = ratio;
    policy_->keep_first = compact_.budget.keep_first;
    policy_->keep_last = compact_.budget.keep_last;
}

Result<Matrix> ChatLane::say(const Probe& turn) {
    const size_t count = turn.prompt.size() + turn.answer.size();
    KVFOLD_CHECK(make_room(count));
    KVFOLD_TRY(Matrix logits, forced_answer(ctx_.get(), turn, tokens()));
    const llama_token last = turn.answer.back();
    const auto end = books_.end(0) + static_cast<llama_pos>(count);
    KVFOLD_CHECK(decode_tokens(ctx_.get(), {&last, 1}, end - 1, Outputs::none));
    for (const auto* part : {&turn.prompt, &turn.answer}) {
        for (const llama_token token : *part)
            books_.decode(books_.end(0), token, kOnlySequence);
    }
    return logits;
}

Result<std::vector<Matrix>> ChatLane::ask(const std::vector<Probe>& probes) {
    KVFOLD_TRY(const SequenceState state, read_sequence(ctx_.get(), 0));
    return ask_on(state, probes);
}

Result<std::vector<Matrix>> ChatLane::ask_folded(const std::vector<Probe>& probes, const Method& method,
                                                 size_t cells, size_t newest) {
    KVFOLD_TRY(const SequenceState state, read_sequence(ctx_.get(), 0));
    CompactRequest once = compact_;
    once.method = &method;
    once.budget = exact_budget(this->cells(), cells, static_cast<size_t>(compact_.budget.keep_first), newest);
    once.tokens = books_.tokens(0);
    KVFOLD_TRY(const CompactState compact, compact_state(model_, state, once));
    KVFOLD_CHECK(write_sequence(ctx_.get(), 0, compact.state));
    KVFOLD_TRY(std::vector<Matrix> answers, ask_on(compact.state, probes));
    KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
    return answers;
}

size_t ChatLane::newest() const {
    const size_t folded = books_.fold_of(0).cells;
    return cells() -
           (folded > 0 ? folded : std::min(cells(), static_cast<size_t>(compact_.budget.keep_first)));
}

Result<std::vector<Matrix>> ChatLane::ask_on(const SequenceState& state, const std::vector<Probe>& probes) {
    std::vector<Matrix> answers;
    for (const Probe& probe : probes) {
        KVFOLD_TRY(Matrix logits, forced_answer(ctx_.get(), probe, tokens()));
        answers.push_back(std::move(logits));
        KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state)); // not every cache can forget tokens
    }
    return answers;
}

// As under `kvfold serve`: folds at the high-water mark, and until `count` more tokens have room.
Status ChatLane::make_room(size_t count) {
    if (!policy_) return {};
    if (static_cast<double>(cells()) >= policy_->high_water * static_cast<double>(limit_)) {
        if (const auto plan = plan_fold(books_.foldable_of(0).front(), *policy_, limit_, /*urgent=*/false))
            KVFOLD_CHECK(fold(*plan));
    }
    while (cells() + count > limit_) {
        const std::vector<Foldable> parts = books_.foldable_of(0);
        const auto plan =
            parts.empty() ? std::nullopt : plan_fold(parts.front(), *policy_, limit_, /*urgent=*/true);
        if (!plan)
            return fail(ErrorCode::invalid_argument,
                        "chat: {} of {} cells are in use and a turn of {} tokens finds no room; raise -c or "
                        "the ratio",
                        cells(), limit_, count);
        KVFOLD_CHECK(fold(*plan));
    }
    return {};
}

Status ChatLane::fold(const FoldPlan& plan) {
    compact_.budget = plan.budget;
    compact_.together = plan.together;
    const PeakMemory memory;
    KVFOLD_TRY(const std::unique_ptr<FoldTask> task, prepare_fold(ctx_.get(), 0, compact_, books_));
    KVFOLD_TRY(const CompactState compact, compact_state(model_, task->snapshot, task->request));
    const Timer swap;
    const std::shared_ptr<ArchivedFold> replaced = archived_fold(*task, compact);
    KVFOLD_CHECK(put_in_place(ctx_.get(), *task, compact.state, books_, replaced));
    archive_.admit(replaced); // others lose their cells to it only now
    swap_s_ += swap.seconds();
    peak_extra_bytes_ = std::max(peak_extra_bytes_, memory.extra_bytes());
    study_s_ += compact.report.study_s;
    solve_s_ += compact.report.solve_s;
    ++folds_;
    return {};
}

} // namespace kvfold
