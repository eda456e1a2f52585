#include "measure/advice.h"

#include "measure/advice_figures.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace kvfold {

std::span<const CacheLoss> measured_losses() { return kCacheLosses; }
std::string_view losses_measured_how() { return kLossesHow; }

std::optional<double> loss_of(std::span<const CacheLoss> losses, ggml_type type, double ratio) {
    const CacheLoss* below = nullptr;
    for (const CacheLoss& each : losses) {
        if (each.type != type) continue;
        if (each.ratio == ratio) return each.kl;
        if (each.ratio < ratio) {
            below = &each;
        } else {
            if (!below) return std::nullopt;
            const double between = std::log(ratio / below->ratio) / std::log(each.ratio / below->ratio);
            return below->kl + between * (each.kl - below->kl);
        }
    }
    return std::nullopt;
}

std::vector<CacheAdvice> advise(std::span<const CacheLoss> losses,
                                const std::function<size_t(ggml_type)>& cell_bytes, size_t context,
                                size_t memory) {
    std::vector<CacheAdvice> found;
    for (const CacheLoss& loss : losses) {
        if (std::ranges::find(found, loss.type, &CacheAdvice::type) != found.end()) continue;
        const double all = static_cast<double>(context) * static_cast<double>(cell_bytes(loss.type));
        if (all == 0) continue;
        const double ratio = std::ceil(all / static_cast<double>(memory));
        found.push_back(
            {loss.type, ratio, static_cast<size_t>(all / ratio), loss_of(losses, loss.type, ratio)});
    }
    std::ranges::stable_sort(found, {}, [](const CacheAdvice& each) {
        return each.kl.value_or(std::numeric_limits<double>::infinity());
    });
    return found;
}

} // namespace kvfold
