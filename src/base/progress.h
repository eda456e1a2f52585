// Progress and cancellation: one callback, asked often.
#pragma once

#include <functional>

namespace kvfold {

// The numbers reach the C API (kvfold_stage): fixed by hand.
enum class Stage : int { snapshot = 0, study = 1, draft = 2, solve = 3, swap = 4 };

// Called with the stage and how much of it is done, 0..1; returns false to cancel. May be called from any
// thread of the operation, never from two at once. Empty = never cancel.
using ProgressFn = std::function<bool(Stage stage, float done)>;

inline bool goes_on(const ProgressFn& progress, Stage stage, float done) {
    return !progress || progress(stage, done);
}

} // namespace kvfold
