#include "measure/task.h"

#include <algorithm>

namespace kvfold::tasks {

namespace {

constexpr size_t kPredicted = 256;

// The text goes on: one token is read, so that the next ones can be predicted.
Result<Task> make(const TaskSource& source) {
    const auto rest = source.text.subspan(source.context, 1 + kPredicted);
    const auto context = source.text.first(source.context);
    Task task{"continuation", {context.begin(), context.end()}, {}};
    task.probes.push_back({{rest.front()}, {rest.begin() + 1, rest.end()}, /*depth=*/1});
    const auto later = source.text.subspan(source.context + rest.size());
    task.later.assign(later.begin(),
                      later.begin() + static_cast<std::ptrdiff_t>(std::min(later.size(), kLaterTokens)));
    return task;
}

} // namespace

const TaskKind continuation = {
    .name = "continuation",
    .about = "predict the next 256 tokens of the text",
    .text_behind = 1 + kPredicted,
    .needs_text = true,
    .asks = false,
    .make = make,
};

} // namespace kvfold::tasks
