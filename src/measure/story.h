// Stories: made-up texts of pieces that tell something, which is asked behind them. A task of this kind is
// text alone; how it becomes tokens is the same for all.
#pragma once

#include "measure/judge.h"
#include "measure/task.h"

#include <random>

namespace kvfold {

// Of a conversation; in a plain text the two follow each other.
struct Turn {
    std::string user, assistant;
};
using Turns = std::vector<Turn>;

struct StoryQuestion {
    Turn turn;    // the question and its right answer
    size_t piece; // where the answer stands; of several places the first
    std::string lead =
        {}; // what the answer begins with, which is given: small models find no form by themselves
};

struct Story {
    Turns opening; // with an example of how such questions are answered
    std::vector<Turns> pieces;
    std::vector<StoryQuestion> questions;
};

struct StoryKind {
    std::string_view name; // of the task
    bool chats;            // in the model's chat template, or plain
    size_t fewest, most;   // pieces
    // As many pieces as asked for, or one less where they come in pairs. The number of questions depends on
    // that of the pieces alone.
    Story (*make)(size_t pieces, std::mt19937_64& rng);
    Turn (*filler)(std::mt19937_64& rng); // stands between the pieces and tells nothing
    const Judge* judge;
};

namespace stories {
extern const StoryKind memory, code, tools;
} // namespace stories

// The pieces at even depths of the source's context, with fillers between them, and the questions. How many
// pieces there are depends on the model and the context alone. Fails with invalid_argument when the context
// is too small.
Result<Task> task_of_story(const StoryKind& kind, const TaskSource& source);

} // namespace kvfold
