// When the cells of a context get scarce, and what folding them in the background takes.
#include "preload/managed_context.h"

#include "base/no_throw.h"
#include "base/timer.h"
#include "preload/log.h"
#include "preload/real.h"

#include <algorithm>
#include <array>
#include <chrono>

namespace kvfold::preload {

namespace {

// Tokens until a sequence that could not be folded is tried again.
constexpr llama_pos kGrowthBeforeRetry = 64;
constexpr size_t kMostJobs = 32;
constexpr auto kPromise = std::chrono::seconds(2); // a program that asked for a size takes the bytes by then

// Instead of the policy's method when it failed, one after the other.
constexpr std::array kSimpler = {&methods::select, kQuickest};

// Failures that another method may be spared.
bool is_of_method(ErrorCode code) {
    return code == ErrorCode::numeric || code == ErrorCode::memory || code == ErrorCode::unsupported ||
           code == ErrorCode::llama;
}

} // namespace

llama_seq_id ManagedContext::best_to_fold(size_t stream, bool urgent, llama_seq_id spared,
                                          FoldPlan& plan) const {
    llama_seq_id best = -1;
    for (Foldable part : books_.foldable(stream)) {
        if (part.seq_id == spared || !can_fold(part)) continue;
        part.changing = std::max(part.changing, edits_.reach(part.seq_id));
        const size_t goes = part.cells + books_.recalled(part.seq_id).own;
        const size_t others = std::min<size_t>(n_ctx_seq_, books_.used(stream) - goes);
        const auto candidate = plan_fold(part, policy_, n_ctx_seq_ - others, urgent);
        if (!candidate || (best >= 0 && candidate->gain() <= plan.gain())) continue;
        best = part.seq_id;
        plan = *candidate;
    }
    return best;
}

// What sequences share stays shared where their cells can be exchanged by position, and only there.
bool ManagedContext::can_share(const Foldable& part) const {
    return !part.is_shared || (is_plain() && books_.shares_by_position(part.seq_id));
}

bool ManagedContext::can_fold(const Foldable& part) const {
    if (!can_share(part)) return false;
    const auto refused = refused_.find(part.seq_id);
    const llama_pos end = books_.end(part.seq_id);
    return refused == refused_.end() || end < refused->second || end >= refused->second + kGrowthBeforeRetry;
}

// Waits for the fold that runs, or for one that it starts. spared: what it holds goes anyway. False: nothing
// can be folded.
bool ManagedContext::make_room(size_t stream, llama_seq_id spared) {
    if (!folder_.task()) {
        if (shift_is_due_ || closed_ || !policy_.automatic) return false;
        FoldPlan plan;
        const llama_seq_id seq_id = best_to_fold(stream, /*urgent=*/true, spared, plan);
        if (seq_id < 0) return drop_recalled_in(stream);
        if (!start_or_refuse(seq_id, plan, {all_threads(), /*gives_way=*/false, /*is_awaited=*/true}))
            return true; // others may be folded
    }
    wait_for_fold();
    return true;
}

void ManagedContext::wait_for_fold() {
    const Timer timer;
    changed_.wait(mutex_, [&]() KVFOLD_REQUIRES(mutex_) { return folder_.task() == nullptr; });
    journal_.waited(timer.seconds());
}

// Beside generation a fold takes half of the threads: a decode step ends with its slowest thread, so one more
// than there are processors would halve the speed. A prompt will soon wait for the fold anyway.
void ManagedContext::fold_when_high(bool generating) {
    if (folder_.task() || shift_is_due_ || closed_ || in_a_hurry_) return;
    for (size_t stream = 0; stream < books_.streams(); ++stream) {
        if (static_cast<double>(books_.used(stream)) < policy_.high_water * n_ctx_seq_) continue;
        FoldPlan plan;
        const llama_seq_id seq_id = best_to_fold(stream, /*urgent=*/false, /*spared=*/-1, plan);
        if (seq_id < 0) continue;
        const int threads = generating ? std::max(1, all_threads() / 2) : all_threads();
        if (start_or_refuse(seq_id, plan, {threads, /*gives_way=*/true, /*is_awaited=*/!generating})) return;
    }
}

bool ManagedContext::start_or_refuse(llama_seq_id seq_id, const FoldPlan& plan, Pace pace) {
    const auto job = start_fold(seq_id, method_for(seq_id), plan, pace);
    if (!job) refuse(seq_id, job.error().message);
    return job.has_value();
}

// The policy's method, or a simpler one where it failed or there is no time for it.
const Method* ManagedContext::method_for(llama_seq_id seq_id) const {
    if (in_a_hurry_) return kQuickest;
    const auto failures = failures_.find(seq_id);
    if (failures == failures_.end()) return policy_.method;
    return kSimpler[std::min<size_t>(static_cast<size_t>(failures->second), kSimpler.size()) - 1];
}

// Not tried again before the sequence has grown or changed.
void ManagedContext::refuse(llama_seq_id seq_id, const std::string& reason) {
    refused_[seq_id] = books_.end(seq_id);
    log_warning("{} cannot be folded: {}", name(seq_id), reason);
}

// A method that studies the text cannot where its tokens are not known.
CompactRequest ManagedContext::request_for(const Method* method, bool knows_tokens, const Budget& budget,
                                           int threads) const {
    const bool needs_tokens = method->keep == Keep::fit && method->study.reads_text();
    CompactRequest request;
    request.method = needs_tokens && !knows_tokens ? &methods::generation : method;
    request.budget = budget;
    request.context = params_;
    request.adapters = adapters_;
    request.threads = threads;
    request.solve_on = policy_.solve_on;
    return request;
}

Result<uint64_t> ManagedContext::start_fold(llama_seq_id seq_id, const Method* method, const FoldPlan& plan,
                                            Pace pace) {
    if (shift_is_due_)
        return fail(ErrorCode::busy, "llama.cpp moves its cells at the next decode; try again behind it");
    CompactRequest request = request_for(method, books_.knows_all_tokens(seq_id), plan.budget, pace.threads);
    request.together = plan.together;
    if (request.method != method)
        log_info("{}: its tokens are not known; studying by {} instead of {}", name(seq_id),
                 request.method->name, method->name);
    method = request.method;
    request.is_awaited = pace.is_awaited;
    KVFOLD_TRY(auto task, prepare_fold(ctx_, seq_id, std::move(request), books_));
    fold_is_void_ = false;
    running_job_ = next_job_++;
    jobs_[running_job_].method = method->name;
    if (jobs_.size() > kMostJobs) jobs_.erase(jobs_.begin());
    log_debug("{}: folding {} cells up to position {} with {}", name(seq_id), task->region_size, task->last,
              method->name);
    folder_.start(std::move(task), pace.gives_way);
    return running_job_;
}

// In the worker's thread. Nothing that is thrown leaves it, and whatever fails, the fold has ended
// afterwards.
void ManagedContext::end_fold(const FoldTask& task, Result<CompactState> compact,
                              const std::stop_token& stop) {
    std::shared_ptr<ArchivedFold> replaced = compact ? replaced_by(task, *compact) : nullptr;
    const MutexLock lock(mutex_);
    const auto may_change = [&]() KVFOLD_REQUIRES(mutex_) {
        return stop.stop_requested() || !(promised_.contains(task.seq_id) || promised_.contains(-1));
    };
    changed_.wait_for(mutex_, kPromise, may_change);
    Status status;
    try {
        status = swap(task, compact, std::move(replaced));
    } catch (...) {
        status = tl::unexpected(error_of_exception());
    }
    note([&]() KVFOLD_REQUIRES(mutex_) { note_fold(task, std::move(status), compact); });
    folder_.forget();
    changed_.notify_all();
}

void ManagedContext::hurry(bool is_so) {
    in_a_hurry_ = is_so;
    if (!is_so) return;
    const MutexLock lock(mutex_); // a fold that was started before
    folder_.cancel();
}

Status ManagedContext::swap(const FoldTask& task, Result<CompactState>& compact,
                            std::shared_ptr<ArchivedFold> replaced) {
    if (!compact) return tl::unexpected(compact.error());
    if (fold_is_void_) return fail(ErrorCode::cancelled, "the sequence was cut while it was folded");
    const Timer timer;
    KVFOLD_CHECK(drop_recalled(task.seq_id)); // of a fold that is no more
    for (const Books::Shared& each : books_.shared(task.seq_id)) {
        KVFOLD_CHECK(drop_recalled(each.seq_id));
    }
    KVFOLD_CHECK(put_in_place(ctx_, task, compact->state, books_, replaced));
    archive_.admit(replaced);
    compact->report.swap_s = timer.seconds();
    return {};
}

// In the job, the journal and the log. REQUIRES: compact, if status is good.
void ManagedContext::note_fold(const FoldTask& task, Status status, const Result<CompactState>& compact) {
    JobResult& job = jobs_[running_job_];
    job.status = std::move(status);
    job.done = true;
    FoldRecord record{task.seq_id, job.method, 0, task.last, {}, {}};
    if (job.status) {
        failures_.erase(task.seq_id);
        job.report = compact->report;
        record.report = compact->report;
        job.report.heads = {};
        log_info("{}: {} cells became {} ({:.1f} s study, {:.1f} s solve, {:.0f} ms swap)", name(task.seq_id),
                 job.report.cells_before, job.report.cells_after, job.report.study_s, job.report.solve_s,
                 1000 * job.report.swap_s);
        if (const SolvedOn& on = job.report.solved_on;
            !on.why_not.empty() && why_not_on_device_ != on.why_not) {
            why_not_on_device_ = on.why_not;
            log_warning("solved on {}", to_text(on));
        }
        journal_.folded(std::move(record), task.region_size);
        return;
    }
    const Error& error = job.status.error();
    if (error.code == ErrorCode::cancelled) return;
    record.error = error.message;
    journal_.folded(std::move(record), task.region_size);
    const auto failed = static_cast<size_t>(failures_[task.seq_id]);
    if (is_of_method(error.code) && failed < kSimpler.size()) {
        ++failures_[task.seq_id];
        log_warning("{}: {} failed ({}); {} is tried next", name(task.seq_id), job.method, error.message,
                    method_for(task.seq_id)->name);
    } else {
        refuse(task.seq_id, error.message);
    }
}

Result<uint64_t> ManagedContext::compact(llama_seq_id seq_id, const Method* method, double ratio) {
    const MutexLock lock(mutex_);
    const Inside inside;
    if (closed_ || !books_.holds(seq_id)) return fail(ErrorCode::not_found, "slot {} holds nothing", seq_id);
    if (const FoldTask* task = folder_.task())
        return fail(ErrorCode::busy, "a fold of slot {} is running; try again later", task->seq_id);
    const std::vector<Foldable> parts = books_.foldable_of(seq_id);
    const Foldable& part = *std::ranges::max_element(parts, {}, &Foldable::cells);
    if (!can_share(part))
        return fail(ErrorCode::unsupported, "slot {} shares cells with others that cannot be folded together",
                    seq_id);
    const FoldPlan whole{.budget = whole_budget(part, policy_, ratio), .together = {}};
    return start_fold(seq_id, method, whole, {std::max(1, all_threads() / 2)});
}

Result<JobResult> ManagedContext::job(uint64_t number) {
    const MutexLock lock(mutex_);
    const auto found = jobs_.find(number);
    if (found == jobs_.end()) return fail(ErrorCode::not_found, "no job {}; it may be too old", number);
    return found->second;
}

} // namespace kvfold::preload
