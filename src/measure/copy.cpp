#include "measure/task.h"

#include <array>

namespace kvfold::tasks {

namespace {

constexpr size_t kPrompt = 16, kCopied = 48;
constexpr std::array kDepths = {0.2, 0.4, 0.6, 0.8};
constexpr size_t kLeastContext = 6 * (kPrompt + kCopied); // passages that do not overlap

// Passages from amid the text: their first tokens again, behind the context, then the rest of each.
Result<Task> make(const TaskSource& source) {
    if (source.context < kLeastContext)
        return fail(ErrorCode::invalid_argument, "copy needs a context of {} tokens; raise -c {}",
                    kLeastContext, source.context);
    const auto context = source.text.first(source.context);
    Task task{"copy", {context.begin(), context.end()}, {}};
    for (const double depth : kDepths) {
        const auto begin = static_cast<size_t>(depth * static_cast<double>(source.context)) - kPrompt;
        const auto prompt = context.subspan(begin, kPrompt),
                   copied = context.subspan(begin + kPrompt, kCopied);
        task.probes.push_back({{prompt.begin(), prompt.end()}, {copied.begin(), copied.end()}, depth});
    }
    return task;
}

} // namespace

const TaskKind copy = {
    .name = "copy",
    .about = "reproduce 48 tokens of the text from their first 16, at four places",
    .text_behind = 0,
    .needs_text = true,
    .asks = true,
    .make = make,
};

} // namespace kvfold::tasks
