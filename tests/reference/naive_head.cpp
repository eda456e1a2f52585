#include "reference/naive_head.h"

#include <algorithm>
#include <cmath>

namespace kvfold::reference {
namespace {

double dot(const Table& a, Index row_a, const Table& b, Index row_b) {
    double sum = 0;
    for (Index k = 0; k < a.cols(); ++k)
        sum += a(row_a, k) * b(row_b, k);
    return sum;
}

Table product(const Table& a, const Table& b) {
    Table c = Table::Zero(a.rows(), b.cols());
    for (Index i = 0; i < a.rows(); ++i) {
        for (Index k = 0; k < a.cols(); ++k) {
            for (Index j = 0; j < b.cols(); ++j)
                c(i, j) += a(i, k) * b(k, j);
        }
    }
    return c;
}

Table normal_matrix(const Table& a) { return product(a.transpose(), a); }

double mean_diagonal(const Table& a) {
    double sum = 0;
    for (Index i = 0; i < a.rows(); ++i)
        sum += a(i, i);
    return sum / static_cast<double>(a.rows());
}

double clip(double w) { return std::min(std::exp(3.0), std::max(std::exp(-3.0), w)); }

Table rows_of(const Table& from, const std::vector<uint32_t>& rows) {
    Table result(static_cast<Index>(rows.size()), from.cols());
    for (size_t i = 0; i < rows.size(); ++i)
        result.row(static_cast<Index>(i)) = from.row(rows[i]);
    return result;
}

double uncapped(double cap, double logit) { return cap * std::atanh(std::clamp(logit / cap, -0.98, 0.98)); }

// The raw bias that acts as `bias` behind the cap on a query with the mean logit.
Column before_cap(double cap, const Table& logits, const Table& shares, const Column& bias) {
    Column raw(bias.size());
    for (Index j = 0; j < bias.size(); ++j) {
        double weighted = 0, total = 0;
        for (Index i = 0; i < shares.rows(); ++i) {
            weighted += shares(i, j) * logits(i, j);
            total += shares(i, j);
        }
        const double mean = weighted / total;
        raw[j] = std::clamp(uncapped(cap, mean + bias[j]) - uncapped(cap, mean), -6.0, 6.0);
    }
    return raw;
}

double log_mass_error(const Table& shares, const Column& bias, const Column& projections, double share) {
    double error = 0;
    for (Index i = 0; i < shares.rows(); ++i) {
        double mass = 0;
        for (Index j = 0; j < bias.size(); ++j)
            mass += shares(i, j) * std::exp(share * bias[j] * projections[i]);
        error += std::log(mass) * std::log(mass);
    }
    return error;
}

// keys += share * bias g^T. Returns the residual.
double absorb(const HeadProblem& problem, const Table& logits, const Table& shares, Column bias,
              Table& keys) {
    const Table scaled = problem.queries.cast<double>() * double(problem.scale);
    const Table ones = Table::Ones(scaled.rows(), 1);
    const Table direction = naive_ridge(scaled, ones, 1e-3);
    const Column projections = product(scaled, direction).col(0);
    double squares = 0;
    for (Index i = 0; i < projections.size(); ++i)
        squares += std::pow(projections[i] - 1, 2);
    const double residual = std::sqrt(squares / static_cast<double>(projections.size()));
    if (residual > 0.25) {
        double best = 0;
        for (const double share : {0.25, 0.5, 0.75, 1.0}) {
            if (log_mass_error(shares, bias, projections, share) <
                log_mass_error(shares, bias, projections, best)) {
                best = share;
            }
        }
        bias *= best;
    }
    if (problem.softcap > 0) bias = before_cap(problem.softcap, logits, shares, bias);
    for (Index j = 0; j < keys.rows(); ++j) {
        for (Index k = 0; k < keys.cols(); ++k)
            keys(j, k) += bias[j] * direction(k, 0);
    }
    return residual;
}

} // namespace

double importance_of(const HeadProblem& problem, Index query) {
    return problem.importance.empty() ? 1
                                      : static_cast<double>(problem.importance[static_cast<size_t>(query)]);
}

double logit_error(const HeadProblem& problem) {
    const double longest = problem.scale * problem.queries.rowwise().norm().maxCoeff() *
                           problem.keys.rowwise().norm().maxCoeff();
    return kEpsilon * (static_cast<double>(problem.keys.cols()) + 2) * longest + 4 * kEpsilon;
}

NaiveAttention naive_attention(const HeadProblem& problem, const Table& keys, const Table& values) {
    const Table queries = problem.queries.cast<double>();
    const Index n = queries.rows(), t = keys.rows();
    NaiveAttention result{Table(n, t), Table(n, t), Column(n), Table(), Column::Zero(t)};
    double all = 0; // importance
    for (Index i = 0; i < n; ++i) {
        double largest = -INFINITY, sum = 0;
        for (Index j = 0; j < t; ++j) {
            double logit = problem.scale * dot(queries, i, keys, j);
            if (problem.softcap > 0) logit = problem.softcap * std::tanh(logit / problem.softcap);
            result.logits(i, j) = logit;
            largest = std::max(largest, logit);
        }
        for (Index j = 0; j < t; ++j)
            sum += std::exp(result.logits(i, j) - largest);
        result.mass[i] = largest + std::log(sum);
        const double importance = importance_of(problem, i);
        all += importance;
        for (Index j = 0; j < t; ++j) {
            result.probabilities(i, j) = std::exp(result.logits(i, j) - result.mass[i]);
            result.score[j] += importance * std::pow(result.probabilities(i, j), 2);
        }
    }
    for (Index j = 0; j < t; ++j)
        result.score[j] = std::sqrt(result.score[j] / all);
    if (values.size() > 0) result.output = product(result.probabilities, values);
    return result;
}

std::vector<uint32_t> naive_select(const Column& score, Index kept, const std::vector<uint32_t>& pinned) {
    std::vector<bool> taken(static_cast<size_t>(score.size()), false);
    for (const uint32_t cell : pinned)
        taken[cell] = true;
    for (Index k = std::ssize(pinned); k < kept; ++k) {
        Index best = -1;
        for (Index j = 0; j < score.size(); ++j) {
            if (!taken[static_cast<size_t>(j)] && (best < 0 || score[j] > score[best])) best = j;
        }
        taken[static_cast<size_t>(best)] = true;
    }
    std::vector<uint32_t> result;
    for (size_t j = 0; j < taken.size(); ++j) {
        if (taken[j]) result.push_back(static_cast<uint32_t>(j));
    }
    return result;
}

double bias_objective(const Table& shares, const Column& weights) {
    double objective = 0, squares = 0;
    for (Index i = 0; i < shares.rows(); ++i) {
        double mass = 0;
        for (Index j = 0; j < shares.cols(); ++j) {
            mass += shares(i, j) * weights[j];
            squares += shares(i, j) * shares(i, j);
        }
        objective += (mass - 1) * (mass - 1);
    }
    const double lambda = 1e-4 * squares / static_cast<double>(shares.cols());
    for (Index j = 0; j < weights.size(); ++j)
        objective += lambda * (weights[j] - 1) * (weights[j] - 1);
    return objective;
}

Column naive_weights(const Table& shares) {
    Table g = normal_matrix(shares);
    const Index t = g.rows();
    const double lambda = 1e-4 * mean_diagonal(g);
    Column r = Column::Constant(t, lambda);
    double lipschitz = 0; // the largest row sum bounds the largest eigenvalue
    for (Index j = 0; j < t; ++j) {
        for (Index i = 0; i < shares.rows(); ++i)
            r[j] += shares(i, j);
        g(j, j) += lambda;
        double row = 0;
        for (Index k = 0; k < t; ++k)
            row += std::abs(g(j, k));
        lipschitz = std::max(lipschitz, row);
    }
    Column w = Column::Ones(t), look = w, next(t);
    double momentum = 1;
    for (int step = 0; step < 200000; ++step) {
        double change = 0, uphill = 0;
        for (Index j = 0; j < t; ++j) {
            double gradient = -r[j];
            for (Index k = 0; k < t; ++k)
                gradient += g(j, k) * look[k];
            next[j] = clip(look[j] - gradient / lipschitz);
            change = std::max(change, std::abs(next[j] - look[j]) / next[j]);
            uphill += (look[j] - next[j]) * (next[j] - w[j]);
        }
        if (uphill > 0) momentum = 1; // restart: the momentum points the wrong way
        const double grown = (1 + std::sqrt(1 + 4 * momentum * momentum)) / 2;
        for (Index j = 0; j < t; ++j)
            look[j] = clip(next[j] + (momentum - 1) / grown * (next[j] - w[j]));
        momentum = grown;
        w = next;
        if (change < 1e-12) break;
    }
    return w;
}

Table naive_ridge(const Table& a, const Table& b, double ridge) {
    Table g = normal_matrix(a);
    const double lambda = ridge * mean_diagonal(g);
    for (Index j = 0; j < g.rows(); ++j)
        g(j, j) += lambda;
    Table z = product(a.transpose(), b);
    const Index t = g.rows();
    for (Index j = 0; j < t; ++j) { // g becomes its lower factor
        for (Index k = 0; k < j; ++k)
            g(j, j) -= g(j, k) * g(j, k);
        g(j, j) = std::sqrt(g(j, j));
        for (Index i = j + 1; i < t; ++i) {
            for (Index k = 0; k < j; ++k)
                g(i, j) -= g(i, k) * g(j, k);
            g(i, j) /= g(j, j);
        }
    }
    for (Index c = 0; c < z.cols(); ++c) {
        for (Index i = 0; i < t; ++i) {
            for (Index k = 0; k < i; ++k)
                z(i, c) -= g(i, k) * z(k, c);
            z(i, c) /= g(i, i);
        }
        for (Index i = t - 1; i >= 0; --i) {
            for (Index k = i + 1; k < t; ++k)
                z(i, c) -= g(k, i) * z(k, c);
            z(i, c) /= g(i, i);
        }
    }
    return z;
}

NaiveHead naive_solve(const HeadProblem& problem, const SolvePlan& plan, Index kept) {
    const Table all_keys = problem.keys.cast<double>(), all_values = problem.values.cast<double>();
    const NaiveAttention full = naive_attention(problem, all_keys, all_values);
    NaiveHead head;
    head.kept = naive_select(full.score, kept, {});
    head.keys = rows_of(all_keys, head.kept);
    head.values = rows_of(all_values, head.kept);
    if (plan.fit_bias) {
        const Table logits = rows_of(full.logits.transpose(), head.kept).transpose();
        const Table shares = rows_of(full.probabilities.transpose(), head.kept).transpose();
        const Column weights = naive_weights(shares);
        Column bias(weights.size());
        for (Index j = 0; j < bias.size(); ++j)
            bias[j] = std::log(weights[j]);
        head.absorb_residual = absorb(problem, logits, shares, bias, head.keys);
    }
    if (plan.fit_values) {
        const Table x = naive_attention(problem, head.keys, Table()).probabilities;
        const Table missing = full.output - product(x, head.values);
        head.values += naive_ridge(x, missing, 1e-3);
    }
    const Quality quality = naive_quality(problem, head.keys, head.values);
    head.output_error = quality.output_error;
    head.mass_error = quality.mass_error;
    return head;
}

Quality naive_quality(const HeadProblem& problem, const Table& keys, const Table& values) {
    const NaiveAttention full =
        naive_attention(problem, problem.keys.cast<double>(), problem.values.cast<double>());
    const NaiveAttention compact = naive_attention(problem, keys, values);
    double error = 0, norm = 0, mass = 0, all = 0;
    for (Index i = 0; i < full.output.rows(); ++i) {
        const double importance = importance_of(problem, i);
        all += importance;
        mass += importance * std::pow(compact.mass[i] - full.mass[i], 2);
        for (Index c = 0; c < full.output.cols(); ++c) {
            error += importance * std::pow(compact.output(i, c) - full.output(i, c), 2);
            norm += importance * std::pow(full.output(i, c), 2);
        }
    }
    return {std::sqrt(error / norm), std::sqrt(mass / all)};
}

} // namespace kvfold::reference
