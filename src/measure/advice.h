// Which type of cache, and how much compaction, keep most of a context in a given memory.
#pragma once

#include <ggml.h>

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace kvfold {

// What a cache loses: KL to the full f16 cache, in nats a token.
struct CacheLoss {
    ggml_type type;
    double ratio; // cells before / cells after
    double kl;
};

// Measured with the default method, by type and rising ratio; that of each type begins with all cells. From
// advice_figures.h, which bench/results.py writes.
std::span<const CacheLoss> measured_losses();
std::string_view losses_measured_how();

// Between two measured ratios the loss goes with the logarithm of the ratio. Nothing for ratios that are
// larger than those measured, or below 1.
std::optional<double> loss_of(std::span<const CacheLoss> losses, ggml_type type, double ratio);

struct CacheAdvice {
    ggml_type type;
    double ratio;             // a whole number; 1: all cells fit
    size_t bytes;             // of the cells
    std::optional<double> kl; // nothing: so large a ratio was not measured
};

// The types that were measured, the one that loses least first, at whole ratios, as serve's --virtual has
// them. cell_bytes: of a cell in all layers that fold; 0 where the model can have no cache of that type.
// REQUIRES: a context and a memory above 0.
std::vector<CacheAdvice> advise(std::span<const CacheLoss> losses,
                                const std::function<size_t(ggml_type)>& cell_bytes, size_t context,
                                size_t memory);

} // namespace kvfold
