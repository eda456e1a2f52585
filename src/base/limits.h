// The ranges of what users may ask for. The command line, the preload's settings, HTTP, the control channel
// and the library all ask here, so that a value is right or wrong wherever it comes from, in the same words.
#pragma once

#include "base/format.h"
#include "base/printable.h"
#include "base/result.h"

#include <array>
#include <cmath>
#include <limits>
#include <string_view>

namespace kvfold {

struct Limit {
    std::string_view name;
    std::string_view wanted;
    bool is_whole; // a number of cells
    bool (*fits)(double);
};

namespace limits {

inline constexpr int kMostCells = std::numeric_limits<int>::max(); // what the engine counts kept cells with

inline constexpr Limit ratio = {"ratio", "cells before / cells after, 1 or more, for example 8", false,
                                [](double given) { return given >= 1 && std::isfinite(given); }};
inline constexpr Limit high_water = {"high_water", "a share of the cells between 0 and 1, for example 0.75",
                                     false, [](double given) { return given > 0 && given < 1; }};
inline constexpr Limit keep_first = {"keep_first", "1 or more cells: the first one must stay", true,
                                     [](double given) { return given >= 1 && given <= kMostCells; }};
inline constexpr Limit keep_last = {"keep_last", "0 or more cells, or -1 for the default", true,
                                    [](double given) { return given >= -1 && given <= kMostCells; }};
inline constexpr Limit archive = {"archive", "0 or more MiB, for example 1024", true,
                                  [](double given) { return given >= 0 && given <= 1 << 30; }};
inline constexpr Limit recall = {"recall", "0 or more cells of each head, for example 16", true,
                                 [](double given) { return given >= 0 && given <= kMostCells; }};
inline constexpr int kUsualRecall = 16; // where there is an archive and nobody says a number

// Of a fold and its policy.
inline constexpr std::array all = {ratio, high_water, keep_first, keep_last};

} // namespace limits

// given: the value as its writer wrote it.
inline tl::unexpected<Error> out_of_range(const Limit& limit, std::string_view given) {
    return fail(ErrorCode::invalid_argument, "{} is {}; give {}", limit.name, printable(given), limit.wanted);
}

inline Status check(const Limit& limit, double value) {
    const bool fits = limit.fits(value) && (!limit.is_whole || value == std::floor(value));
    if (fits) return {};
    return out_of_range(limit, kvfold::format("{}", value));
}

} // namespace kvfold
