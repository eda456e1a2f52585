// Calls of functions that stand far above, each among near-duplicates.
#include "base/format.h"
#include "base/shuffle.h"
#include "measure/facts.h"
#include "measure/story.h"

#include <algorithm>
#include <array>

namespace kvfold {

namespace {

// Two functions that do the same in two cases, with the same parameters in another order. No two families
// share a word: a small model could not tell them apart with its full cache.
constexpr size_t kParametersEach = 2;
struct Family {
    std::string_view name;
    std::array<std::string_view, 2> cases;
    std::array<std::string_view, kParametersEach> parameters;
};
constexpr std::array<Family, 6> kFamilies = {{
    {"compute_tax", {"north", "south"}, {"amount", "rate"}},
    {"apply_discount", {"old", "new"}, {"price", "percent"}},
    {"estimate_shipping", {"home", "abroad"}, {"weight", "distance"}},
    {"pack_boxes", {"small", "large"}, {"count", "width"}},
    {"plan_route", {"fast", "short"}, {"stops", "speed"}},
    {"score_account", {"private", "business"}, {"balance", "age"}},
}};

struct Function {
    std::string name;
    std::array<std::string_view, kParametersEach> parameters;
    int second; // the second parameter's default

    // Of the definition, and of a call that writes out the defaults.
    std::string list() const { return kvfold::format("({}, {}={})", parameters[0], parameters[1], second); }
    std::string definition() const {
        return kvfold::format("def {}{}:\n    return {} * {}\n\n\n", name, list(), parameters[0],
                              parameters[1]);
    }
    // Up to the list.
    std::string call() const { return kvfold::format("result = {}", name); }
};

Story source_file(size_t pieces, std::mt19937_64& rng) {
    const Function shown[] = {{"ring_bell_east", {"sound", "volume"}, 5},
                              {"ring_bell_west", {"volume", "sound"}, 8}};
    auto families = kFamilies;
    shuffle_first(families, families.size(), rng);
    std::array<std::vector<Function>, 2> twins;
    for (size_t i = 0; i < pieces / 2; ++i) {
        Family& family = families[i];
        shuffle_first(family.parameters, kParametersEach, rng);
        for (size_t one = 0; one < 2; ++one) {
            const int second = 10 + 45 * static_cast<int>(one) + static_cast<int>(rng() % 45);
            const Function function{kvfold::format("{}_{}", family.name, family.cases[one]),
                                    family.parameters, second};
            twins[one].push_back(function);
            std::ranges::reverse(family.parameters);
        }
    }
    Story story;
    story.opening = {
        {shown[0].definition() + shown[1].definition() + "# Calls name all parameters as they are defined.\n",
         ""}};
    for (const Function& function : shown)
        story.opening.push_back({function.call(), function.list() + "\n"});
    for (const std::vector<Function>& functions : twins) { // they stand half the file apart
        for (const Function& function : functions) {
            story.questions.push_back({{function.call(), function.list()}, story.pieces.size()});
            story.pieces.push_back({{function.definition(), ""}});
        }
    }
    return story;
}

Turn comment(std::mt19937_64& rng) { return {kvfold::format("# {}\n\n\n", filler_sentence(rng)), ""}; }

Result<Task> make(const TaskSource& source) { return task_of_story(stories::code, source); }

} // namespace

const StoryKind stories::code = {
    .name = "code",
    .chats = false,
    .fewest = 2,
    .most = 2 * kFamilies.size(),
    .make = source_file,
    .filler = comment,
    .judge = &judges::call,
};

const TaskKind tasks::code = {
    .name = "code",
    .about = "call functions that a made-up source file defines far above, among near-duplicates",
    .text_behind = 0,
    .needs_text = false,
    .asks = true,
    .make = make,
};

} // namespace kvfold
