#include "method/measured.h"

#include "method/measured_figures.h"

#include <algorithm>

namespace kvfold {

std::string_view measured_how() { return kMeasuredHow; }

std::optional<Measured> find_measured(std::string_view method) {
    const auto found = std::ranges::find(kMeasured, method, &Measured::method);
    if (found == kMeasured.end()) return std::nullopt;
    return *found;
}

} // namespace kvfold
