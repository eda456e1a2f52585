// Tasks: what a cache is asked, to see how much of the context it still holds. A new task is one file in this
// folder and one line in task.cpp. One whose text is made up and asked about is a story (story.h).
#pragma once

#include "base/result.h"

#include <llama.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kvfold {

// Tokens behind the context, teacher-forced; the cache forgets them again.
struct Probe {
    std::vector<llama_token> prompt; // read, not judged: at least one token
    std::vector<llama_token> answer; // judged: at least one token
    double depth = 0;                // where in the context the answer stands, 0..1
};

inline void append(std::vector<llama_token>& tokens, const std::vector<llama_token>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
}

inline constexpr size_t kLaterTokens = 512; // a passage

struct Judge; // judge.h

struct Task {
    std::string name;
    std::vector<llama_token> context; // what the cache holds
    std::vector<Probe> probes;
    bool by_depth = false;               // whether the depth of a probe matters
    std::vector<llama_token> later = {}; // how the text goes on behind what is judged: at most kLaterTokens
    const Judge* judge = nullptr;        // of what the cache writes by itself; null: it writes nothing
};

// What a task is made of. The same source makes the same task.
struct TaskSource {
    const llama_model* model = nullptr;
    std::span<const llama_token> text; // behind the offset, with the model's own first token; may be empty
    size_t context = 2048;             // tokens of the context
    uint64_t seed = 1;
};

struct TaskKind {
    std::string_view name;
    std::string_view about; // one line
    size_t text_behind;     // tokens of the text that are needed behind the context; unless it needs no text
    bool needs_text;
    bool asks; // for answers that are right or wrong
    // Fails with invalid_argument, saying what to do, when the source is too short for it. Null: the task has
    // a loop of its own (chat.h).
    Result<Task> (*make)(const TaskSource& source);
};

namespace tasks {
extern const TaskKind continuation, questions, copy, memory, code, tools, chat;
} // namespace tasks

std::span<const TaskKind* const> all_tasks();

} // namespace kvfold
