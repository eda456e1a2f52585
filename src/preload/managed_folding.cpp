// When the cells of a context get scarce, and what folding them in the background takes.
#include "preload/managed_context.h"

#include "base/no_throw.h"
#include "preload/log.h"
#include "preload/real.h"

#include <algorithm>
#include <chrono>

#ifdef __linux__
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace kvfold::preload {

namespace {

constexpr llama_pos kGrowthBeforeRetry =
    64; // tokens until a sequence that could not be folded is tried again
constexpr size_t kMostJobs = 32;
constexpr auto kPromise = std::chrono::seconds(2); // a program that asked for a size takes the bytes by then

// Study and solve give way to the program's own decoding. Threads started from here inherit it.
void give_way() {
#ifdef __linux__
    constexpr int kNice = 10;
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), kNice);
#endif
}

} // namespace

size_t ManagedContext::used(size_t stream) const {
    size_t cells = 0;
    for (const auto& [seq_id, log] : logs_) {
        if (stream_of(seq_id) == stream) cells += log.cells();
    }
    return cells;
}

bool ManagedContext::has_room(const std::vector<BatchEntry>& entries, size_t& full_stream) const {
    std::map<size_t, size_t> wanted;
    for (const BatchEntry& entry : entries) {
        if (!entry.seq_ids.empty()) ++wanted[stream_of(entry.seq_ids.front())];
    }
    for (const auto& [stream, count] : wanted) {
        if (used(stream) + count <= n_ctx_seq_) continue;
        full_stream = stream;
        return false;
    }
    return true;
}

llama_seq_id ManagedContext::best_to_fold(size_t stream, bool urgent, FoldPlan& plan) const {
    llama_seq_id best = -1;
    for (const auto& [seq_id, log] : logs_) {
        if (stream_of(seq_id) != stream) continue;
        const auto refused = refused_.find(seq_id);
        if (refused != refused_.end() && log.end() >= refused->second &&
            log.end() < refused->second + kGrowthBeforeRetry)
            continue;
        const size_t others = std::min<size_t>(n_ctx_seq_, used(stream) - log.cells());
        const auto candidate = plan_fold(log, policy_, n_ctx_seq_ - others, urgent);
        if (!candidate || (best >= 0 && candidate->gain() <= plan.gain())) continue;
        best = seq_id;
        plan = *candidate;
    }
    return best;
}

// Waits for the fold that runs, or for one that it starts. False: nothing can be folded.
bool ManagedContext::make_room(Lock& lock, size_t stream) {
    if (!fold_) {
        FoldPlan plan;
        const llama_seq_id seq_id = best_to_fold(stream, /*urgent=*/true, plan);
        if (seq_id < 0) return false;
        if (!start_or_refuse(seq_id, plan, all_threads())) return true; // others may be folded
    }
    wait_for_fold(lock);
    return true;
}

void ManagedContext::wait_for_fold(Lock& lock) {
    const Timer timer;
    changed_.wait(lock, [&] { return fold_ == nullptr; });
    journal_.waited(timer.seconds());
}

// Beside generation a fold takes half of the threads: a decode step ends with its slowest thread, so one more
// than there are processors would halve the speed. A prompt will soon wait for the fold anyway.
void ManagedContext::fold_when_high(bool generating) {
    if (fold_) return;
    const size_t streams = unified_ ? 1 : llama_n_seq_max(ctx_);
    for (size_t stream = 0; stream < streams; ++stream) {
        if (static_cast<double>(used(stream)) < policy_.high_water * n_ctx_seq_) continue;
        FoldPlan plan;
        const llama_seq_id seq_id = best_to_fold(stream, /*urgent=*/false, plan);
        if (seq_id < 0) continue;
        const int threads = generating ? std::max(1, all_threads() / 2) : all_threads();
        if (start_or_refuse(seq_id, plan, threads)) return;
    }
}

bool ManagedContext::start_or_refuse(llama_seq_id seq_id, const FoldPlan& plan, int threads) {
    const auto job = start_fold(seq_id, policy_.method, plan.budget, threads);
    if (!job) refuse(seq_id, job.error().message);
    return job.has_value();
}

// Not tried again before the sequence has grown or changed.
void ManagedContext::refuse(llama_seq_id seq_id, const std::string& reason) {
    refused_[seq_id] = log_of(seq_id).end();
    log_warning("sequence {} cannot be folded: {}", seq_id, reason);
}

Result<uint64_t> ManagedContext::start_fold(llama_seq_id seq_id, const Method* method, const Budget& budget,
                                            int threads) {
    if (method->keep == Keep::fit && method->study.reads_text() && !log_of(seq_id).knows_all_tokens()) {
        log_info("sequence {}: its tokens are not known; studying by generation instead of {}", seq_id,
                 method->name);
        method = &methods::generation;
    }
    CompactRequest request;
    request.method = method;
    request.budget = budget;
    request.context = params_;
    request.threads = threads;
    KVFOLD_TRY(fold_, prepare_fold(ctx_, seq_id, std::move(request), log_of(seq_id)));
    fold_is_void_ = false;
    running_job_ = next_job_++;
    jobs_[running_job_].method = method->name;
    if (jobs_.size() > kMostJobs) jobs_.erase(jobs_.begin());
    log_debug("sequence {}: folding positions {} to {} with {}", seq_id, fold_->fold.begin, fold_->last(),
              method->name);
    if (worker_.joinable()) worker_.join(); // it ended: fold_ was null
    worker_ = std::jthread([this](const std::stop_token& stop) { run_fold(stop); });
    return running_job_;
}

void ManagedContext::touch(llama_seq_id seq_id, llama_pos p0) {
    refused_.erase(seq_id);
    if (!fold_ || fold_->seq_id != seq_id || p0 > fold_->last()) return;
    fold_is_void_ = true;
    worker_.request_stop();
}

// The worker thread: study and solve without the lock, then the swap with it. Nothing that is thrown leaves
// it, and whatever fails, the fold has ended afterwards.
void ManagedContext::run_fold(const std::stop_token& stop) {
    const Inside inside;
    give_way();
    Result<CompactState> compact = without_throwing([&] {
        fold_->request.progress = [&stop](Stage, float) { return !stop.stop_requested(); };
        return compact_state(model_, fold_->snapshot, fold_->request);
    });
    Lock lock(mutex_);
    changed_.wait_for(lock, kPromise, [&] { return !size_promised_ || stop.stop_requested(); });
    Status status = without_throwing([&] { return finish_fold(compact); });
    const std::unique_ptr<FoldTask> task = std::move(fold_);
    (void)without_throwing([&]() -> Status {
        note_fold(*task, std::move(status), compact);
        return {};
    });
    changed_.notify_all();
}

// In the job, the journal and the log. REQUIRES: compact, if status is good.
void ManagedContext::note_fold(const FoldTask& task, Status status, const Result<CompactState>& compact) {
    JobResult& job = jobs_[running_job_];
    job.status = std::move(status);
    job.done = true;
    FoldRecord record{task.seq_id, job.method, task.fold.begin, task.last(), {}, {}};
    if (job.status) {
        job.report = compact->report;
        record.report = compact->report;
        job.report.heads = {};
        log_info("sequence {}: {} cells became {} ({:.1f} s study, {:.1f} s solve, {:.0f} ms swap)",
                 task.seq_id, job.report.cells_before, job.report.cells_after, job.report.study_s,
                 job.report.solve_s, 1000 * job.report.swap_s);
        journal_.folded(std::move(record), task.region_size);
    } else if (job.status.error().code != ErrorCode::cancelled) {
        record.error = job.status.error().message;
        refuse(task.seq_id, record.error);
        journal_.folded(std::move(record), task.region_size);
    }
}

Status ManagedContext::finish_fold(Result<CompactState>& compact) {
    if (!compact) return tl::unexpected(compact.error());
    if (fold_is_void_) return fail(ErrorCode::cancelled, "the sequence was cut while it was folded");
    const Timer timer;
    KVFOLD_CHECK(put_in_place(ctx_, *fold_, compact->state));
    compact->report.swap_s = timer.seconds();
    log_of(fold_->seq_id).set_fold(fold_->fold);
    return {};
}

Result<uint64_t> ManagedContext::compact(llama_seq_id seq_id, const Method* method, double ratio) {
    Lock lock(mutex_);
    const Inside inside;
    const auto log = logs_.find(seq_id);
    if (closed_ || log == logs_.end()) return fail(ErrorCode::not_found, "slot {} holds nothing", seq_id);
    if (fold_) return fail(ErrorCode::busy, "a fold of slot {} is running; try again later", fold_->seq_id);
    return start_fold(seq_id, method, whole_budget(log->second, policy_, ratio),
                      std::max(1, all_threads() / 2));
}

Result<JobResult> ManagedContext::job(uint64_t number) {
    Lock lock(mutex_);
    const auto found = jobs_.find(number);
    if (found == jobs_.end()) return fail(ErrorCode::not_found, "no job {}; it may be too old", number);
    return found->second;
}

Policy ManagedContext::policy() {
    Lock lock(mutex_);
    return policy_;
}

void ManagedContext::set_policy(const Policy& policy) {
    Lock lock(mutex_);
    policy_ = policy;
    refused_.clear();
}

Json ManagedContext::describe() const {
    const auto virtual_cells = static_cast<uint64_t>(n_ctx_) * virtual_;
    return {{"cells", n_ctx_},
            {"virtual_cells", virtual_cells},
            {"cell_bytes", cell_bytes_},
            {"n_seq_max", params_.n_seq_max},
            {"unified", unified_}};
}

Json ManagedContext::state() {
    Lock lock(mutex_);
    Json sequences = Json::array();
    size_t used_cells = 0;
    for (const auto& [seq_id, log] : logs_) {
        const SequenceLog::Fold& fold = log.fold();
        const auto pinned =
            fold.empty() ? std::min<uint32_t>(static_cast<uint32_t>(policy_.keep_first), log.cells())
                         : std::min<uint32_t>(static_cast<uint32_t>(fold.begin), log.cells() - fold.cells);
        used_cells += log.cells();
        sequences.push_back({{"id", seq_id},
                             {"tokens", log.end()},
                             {"cells", log.cells()},
                             {"pinned", pinned},
                             {"folded_cells", fold.cells},
                             {"folded_tokens", fold.end - fold.begin},
                             {"live_cells", log.cells() - fold.cells - pinned},
                             {"tokens_known", log.knows_all_tokens()},
                             {"folding", fold_ && fold_->seq_id == seq_id}});
    }
    return {{"uptime_s", journal_.uptime_s()},
            {"sequences", sequences},
            {"totals", journal_.totals(used_cells)},
            {"history", journal_.history()},
            {"folds", journal_.folds()},
            {"kept", journal_.kept()}};
}

} // namespace kvfold::preload
