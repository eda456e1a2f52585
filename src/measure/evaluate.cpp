#include "measure/evaluate.h"

#include "base/format.h"
#include "base/timer.h"
#include "engine/chunks.h"
#include "measure/forced_answer.h"
#include "measure/peak_memory.h"
#include "measure/recalled_answer.h"
#include "measure/written_answer.h"
#include "model/context.h"
#include "model/model.h"
#include "model/probe.h"
#include "state/live_sequence.h"
#include "study/listen.h"

#include <algorithm>
#include <numeric>

namespace kvfold {

namespace {

struct Answer {
    Matrix logits;       // of the right answer, teacher-forced: [answer, vocabulary]
    std::string written; // by the cache itself; empty without a judge
};
using Answers = std::vector<Answer>; // of all probes of all tasks, in their order

// The same cells in reverse order: what an exact method could be charged with.
SequenceState in_another_order(SequenceState state) {
    KvSection& section = state.sections.front();
    std::vector<uint32_t> order(section.cells.size());
    std::iota(order.rbegin(), order.rend(), 0u);
    section = take_cells(section, order);
    return state;
}

// A ratio that leaves no room is refused before anything long happens.
Status check_ratios(size_t cells, const EvalRequest& request, const std::vector<double>& savings) {
    const KvSection section = cells_of_text(cells);
    for (const double ratio : request.ratios) {
        for (const double saved : savings) {
            for (const Method* method : request.methods) {
                Budget budget = request.compact.budget;
                budget.ratio = ratio / saved;
                KVFOLD_CHECK(plan_regions(section, budget, method->keep));
            }
        }
    }
    return {};
}

// What the probes will ask with: the queries of their tokens are those that the answers depend on.
std::vector<std::vector<llama_token>> judged_tokens(std::span<const Task> tasks) {
    std::vector<std::vector<llama_token>> judged;
    for (const Task& task : tasks) {
        for (const Probe& probe : task.probes) {
            judged.push_back(probe.prompt);
            append(judged.back(), probe.answer);
        }
    }
    return judged;
}

std::vector<std::vector<llama_token>> later_tokens(std::span<const Task> tasks) {
    std::vector<std::vector<llama_token>> later;
    for (const Task& task : tasks) {
        if (!task.later.empty()) later.push_back(task.later);
    }
    return later;
}

std::vector<std::vector<llama_token>> foreseen_tokens(std::span<const Task> tasks, Hindsight hindsight) {
    switch (hindsight) {
    case Hindsight::none:
        return {};
    case Hindsight::judged:
        return judged_tokens(tasks);
    case Hindsight::later:
        return later_tokens(tasks);
    }
    return {};
}

constexpr uint32_t kSpareCells = 64;

// One cache, in full and compacted.
class Measured {
  public:
    // full: the context's cells, when they are known; null = it is read.
    static Result<Measured> prefill(llama_model* model, std::span<const Task> tasks, const EvalCache& cache,
                                    const EvalRequest& request, const SequenceState* full) {
        Measured measured(tasks, request.compact);
        measured.recall_every_ = request.recall_every;
        KVFOLD_TRY(measured.map_, probe_attention(model, request.compact.context));
        measured.compact_.expected = foreseen_tokens(tasks, request.hindsight);
        size_t longest = 0, answer = 0;
        for (const Task& task : tasks) {
            for (const Probe& probe : task.probes) {
                const size_t behind = std::max(probe.answer.size(), task.judge ? most_written(probe) : 0);
                longest = std::max(longest, probe.prompt.size() + behind);
                answer = std::max(answer, probe.answer.size());
            }
        }
        llama_context_params& params = measured.compact_.context;
        params.type_k = cache.type_k;
        params.type_v = cache.type_v;
        params.cb_eval = &TapPlace::callback;
        params.cb_eval_user_data = measured.tap_.get();
        params.n_ctx = static_cast<uint32_t>(tasks.front().context.size() + longest) + kSpareCells +
                       static_cast<uint32_t>(std::ranges::max(request.recalls));
        params.n_batch = std::max(params.n_batch, static_cast<uint32_t>(answer));
        measured.compact_.tokens = tasks.front().context;
        KVFOLD_TRY(measured.ctx_, new_context(model, params, request.compact.adapters));
        KVFOLD_CHECK(measured.fill(full, /*hears=*/!request.full));
        measured.bytes_ = llama_state_seq_get_size(measured.ctx_.get(), 0);
        KVFOLD_TRY(measured.full_, read_sequence(measured.ctx_.get(), 0));
        return measured;
    }

    // A row in which nothing is compacted yet.
    EvalRow row(const EvalCache& cache, std::string_view method, double ratio) const {
        EvalRow row{.cache = cache.name,
                    .method = std::string(method),
                    .asked_ratio = ratio,
                    .ratio = ratio,
                    .prefill_s = prefill_s_};
        row.report.cells_before = row.report.cells_after = compact_.tokens.size();
        row.report.bytes_before = row.report.bytes_after = bytes_;
        return row;
    }

    Result<Answers> full_answers() { return answers(full_); }
    Result<Answers> reordered_answers() { return answers(in_another_order(full_)); }

    // cells: before / after. What compacting cost goes into the row.
    Status compact(const Method& method, double cells, EvalRow& row) {
        KVFOLD_CHECK(write_sequence(ctx_.get(), 0, full_));
        compact_.method = &method;
        compact_.budget.ratio = cells;
        if (!heard_.layers.empty()) compact_.heard = &heard_;
        const PeakMemory memory;
        KVFOLD_TRY(row.report, compact_sequence(ctx_.get(), 0, compact_));
        row.peak_extra_bytes = memory.extra_bytes();
        KVFOLD_TRY(compact_cache_, read_sequence(ctx_.get(), 0));
        return {};
    }

    // Of the cache that was compacted last, as the row says, with so many cells recalled, which go into the
    // row.
    Result<Answers> compact_answers(size_t recalled, EvalRow& row) {
        if (recalled == 0) return answers(compact_cache_);
        const std::vector<uint32_t>& region = row.report.regions.region;
        const auto end = static_cast<llama_pos>(compact_.tokens.size());
        const KeyBlocks blocks = block_keys(map_, full_.sections.front(), region);
        const std::vector<Recallable> sources = {{full_.sections.front(), region, &blocks}};
        const KeptKeys kept = kept_keys(row.report.heads, row.report.region_positions);
        const RecallingCache cache{ctx_.get(), *tap_, map_,     compact_cache_, sources,
                                   kept,       end,   recalled, recall_every_,  compact_.threads};
        row.method += kvfold::format(" +{}", recalled);
        row.report.cells_after += std::min(recalled, region.size());
        row.ratio *= static_cast<double>(row.report.cells_after - std::min(recalled, region.size())) /
                     static_cast<double>(row.report.cells_after);
        return answers(
            compact_cache_, [&](const Probe& probe) { return recalled_answer(cache, probe); },
            [&](const Probe& probe) { return recalled_written_answer(cache, probe); });
    }

  private:
    Measured(std::span<const Task> tasks, const CompactRequest& compact) : tasks_(tasks), compact_(compact) {}

    // hears: in all caches alike or in none, and a cache from a file asks nothing.
    Status fill(const SequenceState* full, bool hears) {
        if (full) return write_sequence(ctx_.get(), 0, *full);
        const Timer timer;
        const TokenSpan text = compact_.tokens;
        Hearing hearing(*tap_, map_.layers, text.size());
        for (size_t done = 0; done < text.size(); done += kScratchBatch) {
            const TokenSpan batch = text.subspan(done, std::min<size_t>(kScratchBatch, text.size() - done));
            const auto decode = [&] {
                return decode_tokens(ctx_.get(), batch, static_cast<llama_pos>(done), Outputs::none);
            };
            KVFOLD_CHECK(hears ? hearing.read(batch.size(), decode) : decode());
        }
        llama_synchronize(ctx_.get());
        prefill_s_ = timer.seconds();
        heard_ = hearing.take();
        return {};
    }

    // The state is put back for each probe: not every cache can forget tokens.
    Result<Answers> answers(const SequenceState& state) {
        const size_t end = compact_.tokens.size();
        return answers(
            state, [&](const Probe& probe) { return forced_answer(ctx_.get(), probe, end); },
            [&](const Probe& probe) { return written_answer(ctx_.get(), probe, end); });
    }

    template <class Force, class Write>
    Result<Answers> answers(const SequenceState& state, Force force, Write write) {
        Answers all;
        for (const Task& task : tasks_) {
            for (const Probe& probe : task.probes) {
                Answer answer;
                KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
                KVFOLD_TRY(answer.logits, force(probe));
                if (task.judge) {
                    KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
                    KVFOLD_TRY(answer.written, write(probe));
                }
                all.push_back(std::move(answer));
            }
        }
        return all;
    }

    std::span<const Task> tasks_;
    CompactRequest compact_;
    ContextPtr ctx_;
    std::unique_ptr<TapPlace> tap_ = std::make_unique<TapPlace>(); // of ctx_
    AttentionMap map_;
    Study heard_; // of the newest tokens
    SequenceState full_, compact_cache_;
    size_t recall_every_ = 0;
    size_t bytes_ = 0;     // of the sequence in full
    double prefill_s_ = 0; // 0 = it was read before
};

// The rows of one evaluation, as they come.
class Rows {
  public:
    Rows(const llama_model* model, std::span<const Task> tasks) : model_(model), tasks_(tasks) {}

    void compare_with(Answers full) { full_ = std::move(full); }

    void add(const EvalRow& measured, const Answers& answers) {
        size_t at = 0;
        for (const Task& task : tasks_) {
            EvalRow row = measured;
            row.task = task.name;
            row.judge = task.judge;
            std::vector<Score> scores;
            for (const Probe& probe : task.probes) {
                scores.push_back(score(task, probe, full_[at], answers[at]));
                if (task.by_depth) row.by_depth.push_back({probe.depth, scores.back()});
                ++at;
            }
            row.score = pool(scores);
            rows_.push_back(std::move(row));
        }
    }

    // Task by task.
    std::vector<EvalRow> take() {
        std::stable_sort(rows_.begin(), rows_.end(),
                         [&](const EvalRow& a, const EvalRow& b) { return place(a) < place(b); });
        return std::move(rows_);
    }

  private:
    Score score(const Task& task, const Probe& probe, const Answer& full, const Answer& answer) const {
        Score score = score_answer(full.logits, answer.logits, probe.answer);
        if (!task.judge) return score;
        const std::string right = detokenize(model_, probe.answer);
        score.written = task.judge->score(answer.written, right);
        score.written_full = task.judge->score(full.written, right);
        return score;
    }

    std::ptrdiff_t place(const EvalRow& row) const {
        return std::find_if(tasks_.begin(), tasks_.end(),
                            [&](const Task& task) { return task.name == row.task; }) -
               tasks_.begin();
    }

    const llama_model* model_;
    std::span<const Task> tasks_;
    Answers full_; // of the first cache
    std::vector<EvalRow> rows_;
};

void tell(const EvalRequest& request, std::string_view what) {
    if (request.step) request.step(what);
}

// A baseline folds nothing, and what it drops is not asked for: it shows what recall adds to. At ratio 1 no
// method does.
std::vector<size_t> recalls_of(const Method& method, const EvalRequest& request, const EvalRow& row) {
    const bool folds = method.keep == Keep::fit && !row.report.regions.region.empty();
    return folds ? request.recalls : std::vector<size_t>{0};
}

Status add_compacted(Measured& measured, const EvalCache& cache, double saved, const EvalRequest& request,
                     Rows& rows) {
    for (const double ratio : request.ratios) {
        for (const Method* method : request.methods) {
            tell(request, kvfold::format("{} {} {:g}x", cache.name, method->name, ratio));
            EvalRow row = measured.row(cache, method->name, ratio);
            KVFOLD_CHECK(measured.compact(*method, ratio / saved, row));
            for (const size_t recalled : recalls_of(*method, request, row)) {
                EvalRow each = row;
                KVFOLD_TRY(const Answers answers, measured.compact_answers(recalled, each));
                rows.add(each, answers);
            }
        }
    }
    return {};
}

} // namespace

Status check_hindsight(std::span<const Task> tasks, const EvalRequest& request) {
    if (request.hindsight == Hindsight::none) return {};
    if (foreseen_tokens(tasks, request.hindsight).empty())
        return fail(ErrorCode::invalid_argument,
                    "task {}: no text goes on behind what is judged, so there is nothing "
                    "to study there; ask for continuation",
                    tasks.front().name);
    for (const Method* method : request.methods) {
        if (method->keep == Keep::fit && !method->study.reads_text())
            return fail(ErrorCode::invalid_argument,
                        "method {} studies no text, so hindsight changes nothing for it", method->name);
    }
    return {};
}

Result<std::vector<double>> savings_of_types(llama_model* model, const EvalRequest& request) {
    KVFOLD_TRY(const AttentionMap map, probe_attention(model, request.compact.context));
    const EvalCache& usual = request.caches.front();
    const auto first = static_cast<double>(bytes_of_cell(map, usual.type_k, usual.type_v));
    std::vector<double> savings;
    for (const EvalCache& cache : request.caches) {
        const double saved = first / static_cast<double>(bytes_of_cell(map, cache.type_k, cache.type_v));
        savings.push_back(saved);
        for (const double ratio : request.ratios) {
            if (ratio < saved)
                return fail(ErrorCode::invalid_argument,
                            "ratio {:g}: a {} cache takes {:.2f} times fewer bytes uncompacted; give more",
                            ratio, cache.name, saved);
        }
    }
    return savings;
}

Result<std::vector<EvalRow>> evaluate(llama_model* model, std::span<const Task> tasks,
                                      const EvalRequest& request) {
    KVFOLD_TRY(const std::vector<double> savings, savings_of_types(model, request));
    KVFOLD_CHECK(check_ratios(tasks.front().context.size(), request, savings));
    KVFOLD_CHECK(check_hindsight(tasks, request));

    Rows rows(model, tasks);
    for (size_t i = 0; i < savings.size(); ++i) {
        const EvalCache& cache = request.caches[i];
        tell(request, kvfold::format("{} prefill", cache.name));
        KVFOLD_TRY(Measured measured,
                   Measured::prefill(model, tasks, cache, request, i == 0 ? request.full : nullptr));
        KVFOLD_TRY(Answers full, measured.full_answers());
        if (i == 0) {
            KVFOLD_TRY(const Answers reordered, measured.reordered_answers());
            rows.compare_with(std::move(full));
            rows.add(measured.row(cache, kNoiseFloor, 1), reordered);
        } else {
            rows.add(measured.row(cache, kFullCache, savings[i]), full);
        }
        KVFOLD_CHECK(add_compacted(measured, cache, savings[i], request, rows));
    }
    return rows.take();
}

} // namespace kvfold
