// How far one set of logits is from another.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace kvfold::testing {

// KL(p || q) of the next token, nats.
inline double kl_divergence(const std::vector<float>& p, const std::vector<float>& q) {
    const auto log_sum = [](const std::vector<float>& x) {
        const double top = *std::max_element(x.begin(), x.end());
        double sum = 0;
        for (const float value : x)
            sum += std::exp(value - top);
        return top + std::log(sum);
    };
    const double p_sum = log_sum(p), q_sum = log_sum(q);
    double kl = 0;
    for (size_t i = 0; i < p.size(); ++i)
        kl += std::exp(p[i] - p_sum) * ((p[i] - p_sum) - (q[i] - q_sum));
    return kl;
}

} // namespace kvfold::testing
