#include "base/format.h"
#include "measure/facts.h"
#include "measure/task.h"
#include "model/model.h"

#include <algorithm>

namespace kvfold::tasks {

namespace {

constexpr size_t kTokensAFact = 128; // of context, so that facts stand apart
constexpr size_t kFewestFacts = 2;

// Facts at even depths of a text that says nothing else about them, asked behind it in other words than
// theirs. The sentences are tokenised one by one, so that the statement stands in the context token for
// token.
Result<Task> make(const TaskSource& source) {
    const size_t count = std::min(kMostFacts, source.context / kTokensAFact);
    if (count < kFewestFacts)
        return fail(ErrorCode::invalid_argument, "questions needs a context of {} tokens; raise -c {}",
                    kFewestFacts * kTokensAFact, source.context);
    const auto words = [&](const char* before, const std::string& text) {
        return tokenize(source.model, kvfold::format("{}{}", before, text), /*add_bos=*/false,
                        /*special=*/false);
    };
    std::mt19937_64 rng(source.seed);
    Task task{
        "questions", tokenize(source.model, "", /*add_bos=*/true, /*special=*/false), {}, /*by_depth=*/true};
    const std::vector<Fact> facts = make_facts(count, rng);
    std::vector<llama_token> filler = words(" ", filler_sentence(rng));
    const auto fill_up_to = [&](size_t tokens) {
        for (; task.context.size() + filler.size() <= tokens; filler = words(" ", filler_sentence(rng)))
            append(task.context, filler);
    };
    for (size_t i = 0; i < count; ++i) {
        const double depth = (static_cast<double>(i) + 0.5) / static_cast<double>(count);
        fill_up_to(static_cast<size_t>(depth * static_cast<double>(source.context)));
        const Fact& fact = facts[i];
        append(task.context, words(" ", fact.statement));
        task.probes.push_back({words("\n\n", fact.question), words(" ", fact.answer), depth});
    }
    fill_up_to(source.context);
    append(task.context, filler); // cut where the context ends
    task.context.resize(source.context);
    return task;
}

} // namespace

const TaskKind questions = {
    .name = "questions",
    .about = "answer questions about facts at all depths of a made-up text",
    .text_behind = 0,
    .needs_text = false,
    .asks = true,
    .make = make,
};

} // namespace kvfold::tasks
