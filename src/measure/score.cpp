#include "measure/score.h"

#include <algorithm>
#include <cmath>

namespace kvfold {

namespace {

// Of one row of logits.
struct Prediction {
    Eigen::ArrayXd log_p;
    Index top = 0;

    explicit Prediction(const Eigen::Ref<const Eigen::RowVectorXf>& logits)
        : log_p(logits.transpose().cast<double>()) {
        const double highest = log_p.maxCoeff(&top);
        log_p -= highest + std::log((log_p - highest).exp().sum());
    }
};

} // namespace

Score score_answer(const Matrix& full, const Matrix& compact, std::span<const llama_token> answer) {
    Score score{.tokens = answer.size(), .answers = 1, .exact = 1, .exact_full = 1};
    const auto count = static_cast<double>(answer.size());
    for (Index i = 0; i < std::ssize(answer); ++i) {
        const Prediction before(full.row(i)), after(compact.row(i));
        const Index token = answer[static_cast<size_t>(i)];
        score.kl += (before.log_p.exp() * (before.log_p - after.log_p)).sum() / count;
        score.top1 += (before.top == after.top ? 1 : 0) / count;
        score.nll -= after.log_p[token] / count;
        score.nll_full -= before.log_p[token] / count;
        if (after.top != token) score.exact = 0;
        if (before.top != token) score.exact_full = 0;
    }
    return score;
}

Score pool(std::span<const Score> scores) {
    Score sum;
    for (const Score& each : scores) {
        sum.tokens += each.tokens;
        sum.answers += each.answers;
    }
    const auto tokens = static_cast<double>(std::max<size_t>(1, sum.tokens));
    const auto answers = static_cast<double>(std::max<size_t>(1, sum.answers));
    for (const Score& each : scores) {
        const double of_tokens = static_cast<double>(each.tokens) / tokens;
        const double of_answers = static_cast<double>(each.answers) / answers;
        sum.kl += each.kl * of_tokens;
        sum.top1 += each.top1 * of_tokens;
        sum.nll += each.nll * of_tokens;
        sum.nll_full += each.nll_full * of_tokens;
        sum.exact += each.exact * of_answers;
        sum.exact_full += each.exact_full * of_answers;
        sum.written += each.written * of_answers;
        sum.written_full += each.written_full * of_answers;
    }
    return sum;
}

} // namespace kvfold
