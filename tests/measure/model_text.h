// A text for the tasks to read, and the tasks made of it.
#pragma once

#include "measure/suite.h"
#include "support/llama_fixture.h"

namespace kvfold::testing {

inline Task task_of(const TaskKind& kind, const llama_model* model, std::span<const llama_token> text,
                    size_t context, uint64_t seed = 1) {
    Result<Task> task = kind.make({model, text, context, seed});
    EXPECT_TRUE(task) << task.error().message;
    return task ? *std::move(task) : Task{};
}

inline EvalRequest request_with(std::vector<const Method*> methods, double ratio) {
    EvalRequest request;
    request.methods = std::move(methods);
    request.ratios = {ratio};
    request.compact.threads = 1;
    request.compact.context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    request.compact.context.n_threads = request.compact.context.n_threads_batch = 1;
    return request;
}

} // namespace kvfold::testing
