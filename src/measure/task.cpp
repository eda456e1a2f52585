#include "measure/task.h"

#include <array>

namespace kvfold {

std::span<const TaskKind* const> all_tasks() {
    static constexpr std::array kinds = {&tasks::continuation, &tasks::questions, &tasks::copy,
                                         &tasks::memory,       &tasks::code,      &tasks::tools,
                                         &tasks::chat};
    return kinds;
}

} // namespace kvfold
