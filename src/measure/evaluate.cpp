#include "measure/evaluate.h"

#include "base/timer.h"
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

} // namespace

Result<EvalReport> evaluate(llama_context* ctx, const EvalRequest& request,
                            const std::function<void(const EvalRow&)>& on_row) {
    const auto context = request.tokens.first(request.context);
    const auto continuation = request.tokens.subspan(request.context);
    EvalReport report;
    report.continuation = continuation.size();

    const Timer prefill;
    KVFOLD_CHECK(decode_tokens(ctx, context, 0, Outputs::none));
    llama_synchronize(ctx);
    report.prefill_s = prefill.seconds();

    KVFOLD_TRY(const SequenceState snapshot, read_sequence(ctx, 0));
    KVFOLD_TRY(const Matrix full, teacher_force(ctx, continuation, context.size()));
    KVFOLD_CHECK(write_sequence(ctx, 0, in_another_order(snapshot)));
    KVFOLD_TRY(const Matrix reordered, teacher_force(ctx, continuation, context.size()));
    report.noise_floor = compare(full, reordered, continuation);

    for (const double ratio : request.ratios) {
        for (const Method* method : request.methods) {
            KVFOLD_CHECK(write_sequence(ctx, 0, snapshot));
            CompactRequest compact = request.compact;
            compact.method = method;
            compact.budget.ratio = ratio;
            compact.tokens = context;
            EvalRow row{std::string(method->name), ratio, {}, {}};
            KVFOLD_TRY(row.report, compact_sequence(ctx, 0, compact));
            KVFOLD_TRY(const Matrix logits, teacher_force(ctx, continuation, context.size()));
            row.divergence = compare(full, logits, continuation);
            if (on_row) on_row(row);
            report.rows.push_back(std::move(row));
        }
    }
    return report;
}

} // namespace kvfold
