// What each method was measured to cost and to be worth. `bench/results.py methods` writes
// measured_figures.h, from the same run as the table in docs/results.md.
#pragma once

#include <optional>
#include <string_view>

namespace kvfold {

struct Measured {
    std::string_view method;
    double cost; // study + solve / prefill
    double kl;   // KL / that of keep_last, geometric means over the texts
};

// How it was measured, in words.
std::string_view measured_how();

// Nothing for a method that was not measured.
std::optional<Measured> find_measured(std::string_view method);

} // namespace kvfold
