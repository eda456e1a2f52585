#include "measure/evaluate.h"

#include "base/timer.h"
#include "measure/peak_memory.h"
#include "runtime/context.h"
#include "state/live_sequence.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace kvfold {

namespace {

// Logits after each token of a continuation: [tokens, vocabulary].
Result<Matrix> teacher_force(llama_context* ctx, std::span<const llama_token> tokens, size_t first_pos) {
    KVFOLD_CHECK(decode_tokens(ctx, tokens, static_cast<llama_pos>(first_pos), Outputs::all));
    const Index vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(llama_get_model(ctx)));
    return Matrix(Eigen::Map<const Matrix>(llama_get_logits(ctx), std::ssize(tokens), vocabulary));
}

double log_sum_exp(const Eigen::ArrayXd& logits) {
    const double top = logits.maxCoeff();
    return top + std::log((logits - top).exp().sum());
}

// tokens: [rows], the continuation: row i's logits predict token i + 1.
Divergence compare(const Matrix& full, const Matrix& compact, std::span<const llama_token> tokens) {
    Divergence sum;
    const Index rows = full.rows(), early = std::min<Index>(rows, 64);
    for (Index i = 0; i < rows; ++i) {
        const Eigen::ArrayXd a = full.row(i).cast<double>(), b = compact.row(i).cast<double>();
        const double mass_a = log_sum_exp(a), mass_b = log_sum_exp(b);
        const double kl = ((a - mass_a).exp() * ((a - mass_a) - (b - mass_b))).sum();
        Index top_a = 0, top_b = 0;
        a.maxCoeff(&top_a);
        b.maxCoeff(&top_b);
        sum.kl += kl / static_cast<double>(rows);
        if (i < early) sum.kl_first64 += kl / static_cast<double>(early);
        sum.top1 += (top_a == top_b ? 1.0 : 0.0) / static_cast<double>(rows);
        sum.logit_cosine +=
            (a * b).sum() / std::sqrt(a.square().sum() * b.square().sum()) / static_cast<double>(rows);
        if (i + 1 < rows) {
            const Index next = tokens[static_cast<size_t>(i + 1)];
            sum.dnll += ((a[next] - mass_a) - (b[next] - mass_b)) / static_cast<double>(rows - 1);
        }
    }
    return sum;
}

// The same cells in reverse order: what an exact method could be charged with.
SequenceState in_another_order(SequenceState state) {
    KvSection& section = state.sections.front();
    std::vector<uint32_t> order(section.cells.size());
    std::iota(order.rbegin(), order.rend(), 0u);
    section = take_cells(section, order);
    return state;
}

size_t bytes_of_a_cell(const KvSection& section) {
    size_t bytes = 0;
    for (const auto* tensors : {&section.keys, &section.values}) {
        for (const CacheTensor& tensor : *tensors)
            bytes += tensor.row_bytes();
    }
    return bytes;
}

constexpr uint32_t kSpareCells = 64;

// One cache, in full and compacted.
class Measured {
  public:
    static Result<Measured> prefill(llama_model* model, const EvalRequest& request, const EvalCache& cache) {
        Measured measured(request);
        llama_context_params params = request.compact.context;
        params.type_k = cache.type_k;
        params.type_v = cache.type_v;
        params.n_ctx = static_cast<uint32_t>(request.tokens.size()) + kSpareCells;
        params.n_batch = std::max(params.n_batch, static_cast<uint32_t>(measured.continuation_.size()));
        measured.compact_.context = params;
        measured.compact_.tokens = request.tokens.first(request.context);
        KVFOLD_TRY(measured.ctx_, new_context(model, params));
        const Timer timer;
        KVFOLD_CHECK(decode_tokens(measured.ctx_.get(), measured.compact_.tokens, 0, Outputs::none));
        llama_synchronize(measured.ctx_.get());
        measured.prefill_s_ = timer.seconds();
        KVFOLD_TRY(measured.snapshot_, read_sequence(measured.ctx_.get(), 0));
        return measured;
    }

    double prefill_s() const { return prefill_s_; }
    size_t bytes_of_a_cell() const { return kvfold::bytes_of_a_cell(snapshot_.sections.front()); }
    size_t bytes() const { return encode_sequence(snapshot_).size(); }

    Result<Matrix> full_logits() { return logits_of(snapshot_); }
    Result<Matrix> reordered_logits() { return logits_of(in_another_order(snapshot_)); }

    // cells: before / after. Logits of the compact cache; what compacting cost goes into the row.
    Result<Matrix> compact_logits(const Method& method, double cells, EvalRow& row) {
        KVFOLD_CHECK(write_sequence(ctx_.get(), 0, snapshot_));
        compact_.method = &method;
        compact_.budget.ratio = cells;
        const PeakMemory memory;
        KVFOLD_TRY(row.report, compact_sequence(ctx_.get(), 0, compact_));
        row.peak_extra_bytes = memory.extra_bytes();
        return teacher_force(ctx_.get(), continuation_, compact_.tokens.size());
    }

  private:
    explicit Measured(const EvalRequest& request)
        : compact_(request.compact), continuation_(request.tokens.subspan(request.context)) {}

    Result<Matrix> logits_of(const SequenceState& state) {
        KVFOLD_CHECK(write_sequence(ctx_.get(), 0, state));
        return teacher_force(ctx_.get(), continuation_, compact_.tokens.size());
    }

    CompactRequest compact_;
    std::span<const llama_token> continuation_;
    ContextPtr ctx_;
    SequenceState snapshot_;
    double prefill_s_ = 0;
};

} // namespace

Result<EvalReport> evaluate(llama_model* model, const EvalRequest& request,
                            const std::function<void(const EvalRow&)>& on_row) {
    const auto continuation = request.tokens.subspan(request.context);
    EvalReport report;
    report.continuation = continuation.size();
    Matrix full; // of the first cache
    size_t full_bytes_of_a_cell = 0;
    const auto add = [&](EvalRow row, const Matrix& logits) {
        row.divergence = compare(full, logits, continuation);
        if (on_row) on_row(row);
        report.rows.push_back(std::move(row));
    };
    for (const EvalCache& cache : request.caches) {
        KVFOLD_TRY(Measured measured, Measured::prefill(model, request, cache));
        if (&cache == &request.caches.front()) {
            report.prefill_s = measured.prefill_s();
            report.bytes = measured.bytes();
            full_bytes_of_a_cell = measured.bytes_of_a_cell();
            KVFOLD_TRY(full, measured.full_logits());
            KVFOLD_TRY(const Matrix reordered, measured.reordered_logits());
            report.noise_floor = compare(full, reordered, continuation);
        }
        const double saved = static_cast<double>(full_bytes_of_a_cell) / static_cast<double>(measured.bytes_of_a_cell());
        if (&cache != &request.caches.front()) {
            KVFOLD_TRY(const Matrix logits, measured.full_logits());
            CompactReport nothing_done;
            nothing_done.cells_before = nothing_done.cells_after = request.context;
            nothing_done.bytes_before = nothing_done.bytes_after = measured.bytes();
            add({cache.name, "full", saved, std::move(nothing_done), {}, {}}, logits);
        }
        for (const double ratio : request.ratios) {
            if (ratio < saved)
                return fail(ErrorCode::invalid_argument,
                            "ratio {:g}: a {} cache takes {:.2f} times fewer bytes uncompacted; give more", ratio,
                            cache.name, saved);
            for (const Method* method : request.methods) {
                EvalRow row{cache.name, std::string(method->name), ratio, {}, {}, {}};
                KVFOLD_TRY(const Matrix logits, measured.compact_logits(*method, ratio / saved, row));
                add(std::move(row), logits);
            }
        }
    }
    return report;
}

} // namespace kvfold
