#include "model/chat_turn.h"

#include "base/format.h"
#include "model/model.h"

#include <array>

namespace kvfold {

namespace {

// What a template puts behind an answer, found by asking it for a turn with a known answer.
std::string template_closing(const llama_model* model) {
    const ChatMessage question{"user", "a"}, reply{"assistant", "b"};
    const std::string before =
        apply_chat_template(model, std::array{question}, /*assistant_next=*/true) + reply.content;
    const std::string whole =
        apply_chat_template(model, std::array{question, reply}, /*assistant_next=*/false);
    return whole.starts_with(before) ? whole.substr(before.size()) : "\n";
}

} // namespace

ChatTurn make_turn(const llama_model* model, const std::string& question, bool is_first) {
    const ChatMessage message{"user", question};
    const std::string opening = apply_chat_template(model, std::array{message}, /*assistant_next=*/true);
    if (!opening.empty()) return {opening, template_closing(model), false};
    return {kvfold::format("{}Question: {}\nAnswer:", is_first ? "" : "\n\n", question), "\n", true};
}

} // namespace kvfold
