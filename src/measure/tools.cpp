// An agent's transcript: calls of tools whose arguments stand in results far above.
#include "base/format.h"
#include "measure/facts.h"
#include "measure/story.h"
#include "measure/words.h"

namespace kvfold {

namespace {

// What a tool finds, and what is done with it later: by another tool, with all that was found as arguments.
struct Record {
    std::string_view noun, request, tool; // "order", "Refund", "refund"
    std::string found;                    // fields of JSON; the first one names the customer
    std::string_view customer;
};

Turns look_up(const Record& record) {
    return {{kvfold::format("Look up the {} of {}.", record.noun, record.customer),
             kvfold::format(R"({{"tool": "find_{}", "arguments": {{"customer": "{}"}}}})", record.noun,
                            record.customer)},
            {kvfold::format("{{{}}}", record.found), "Found."}};
}

Turn request(const Record& record) {
    return {kvfold::format("{} the {} of {}.", record.request, record.noun, record.customer),
            kvfold::format(R"({{"tool": "{}", "arguments": {{{}}}}})", record.tool, record.found)};
}

class Agent {
  public:
    explicit Agent(std::mt19937_64& rng) : rng_(rng), customers_(kPeople, rng) {}

    Story transcript(size_t pieces) {
        Story story;
        for (size_t kind = 0; kind < kKinds; ++kind) {
            const Record shown = record(kind);
            for (const Turn& turn : look_up(shown))
                story.opening.push_back(turn);
            story.opening.push_back(request(shown));
        }
        story.opening.front().user.insert(
            0, "Answer each request with the call of one tool, as JSON on one line. ");
        for (size_t i = 0; i < pieces; ++i) {
            const Record found = record(i % kKinds);
            story.questions.push_back({request(found), i});
            story.pieces.push_back(look_up(found));
        }
        return story;
    }

  private:
    static constexpr size_t kKinds = 2;

    Record record(size_t kind) {
        const auto customer = customers_.draw();
        if (kind == 0) {
            const auto letter = static_cast<char>('A' + rng_() % 26);
            const int order = numbers_.draw(), cents = numbers_.draw();
            return {"order", "Refund", "refund",
                    kvfold::format(R"("customer": "{}", "order": "{}-{}", "amount": {}.{:02})", customer,
                                   letter, order, cents / 100, cents % 100),
                    customer};
        }
        return {"invoice", "Send", "send_file",
                kvfold::format(R"("customer": "{}", "path": "/invoices/{}.pdf")", customer, numbers_.draw()),
                customer};
    }

    std::mt19937_64& rng_;
    Deck customers_;
    Numbers numbers_{1000, 10000, rng_};
};

Turn note(std::mt19937_64& rng) {
    return {kvfold::format("For the log: {}", filler_sentence(rng)), "Logged."};
}

Result<Task> make(const TaskSource& source) { return task_of_story(stories::tools, source); }

} // namespace

const StoryKind stories::tools = {
    .name = "tools",
    .chats = true,
    .fewest = 2,
    .most = 12,
    .make = [](size_t pieces, std::mt19937_64& rng) { return Agent(rng).transcript(pieces); },
    .filler = note,
    .judge = &judges::json,
};

const TaskKind tasks::tools = {
    .name = "tools",
    .about = "write an agent's calls of tools, whose arguments stand in results far above",
    .text_behind = 0,
    .needs_text = false,
    .asks = true,
    .make = make,
};

} // namespace kvfold
