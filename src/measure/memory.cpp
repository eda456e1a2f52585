// A long conversation of two people, session by session, and questions about it.
#include "base/format.h"
#include "measure/facts.h"
#include "measure/story.h"
#include "measure/words.h"

#include <chrono>

namespace kvfold {

namespace {

constexpr size_t kSessionsAGroup = 4; // an animal, a relative, a deed, the relative's town

constexpr std::array<std::string_view, 16> kAnimals = {
    "cat",    "dog",  "parrot", "horse",  "rabbit", "hamster", "goat",   "turtle",
    "canary", "pony", "donkey", "ferret", "goose",  "lizard",  "pigeon", "hedgehog"};
constexpr std::array<std::string_view, 16> kRelatives = {
    "sister",    "brother", "cousin",  "uncle", "aunt",      "nephew",  "niece",  "neighbor",
    "colleague", "dentist", "teacher", "boss",  "classmate", "partner", "lawyer", "tailor"};

// "Today I sold the old car." "When did Agnes sell the old car?"
struct Deed {
    std::string_view done, plain;
};
constexpr std::array<Deed, 16> kDeeds = {{{"sold the old car", "sell the old car"},
                                          {"painted the kitchen", "paint the kitchen"},
                                          {"joined a choir", "join a choir"},
                                          {"bought a bicycle", "buy a bicycle"},
                                          {"planted a pear tree", "plant a pear tree"},
                                          {"passed the driving test", "pass the driving test"},
                                          {"started a pottery class", "start a pottery class"},
                                          {"lost the house keys", "lose the house keys"},
                                          {"baked bread", "bake bread"},
                                          {"ran a marathon", "run a marathon"},
                                          {"broke an arm", "break an arm"},
                                          {"won the chess tournament", "win the chess tournament"},
                                          {"quit smoking", "quit smoking"},
                                          {"gave a concert", "give a concert"},
                                          {"moved into a new flat", "move into a new flat"},
                                          {"adopted a vegetarian diet", "adopt a vegetarian diet"}}};

// Days of one year that go on by one to three weeks each time. No year is said: whoever guesses it would have
// a third of the answer right.
class Calendar {
  public:
    explicit Calendar(std::mt19937_64& rng) : rng_(rng) {}

    std::string next() {
        using namespace std::chrono;
        constexpr std::array<std::string_view, 12> months = {"January",   "February", "March",    "April",
                                                             "May",       "June",     "July",     "August",
                                                             "September", "October",  "November", "December"};
        day_ += days(7 + static_cast<int>(rng_() % 15));
        const year_month_day date(day_);
        return kvfold::format("{} {}", static_cast<unsigned>(date.day()),
                              months[static_cast<unsigned>(date.month()) - 1]);
    }

  private:
    std::mt19937_64& rng_;
    std::chrono::sys_days day_ = std::chrono::year(2023) / 1 / 1;
};

struct Said {
    std::string_view speaker;
    std::string words;
};

Turn session(const std::string& date, const Said& one, const Said& other) {
    return {kvfold::format("Conversation of {}\n{}: {}\n{}: {}", date, one.speaker, one.words, other.speaker,
                           other.words),
            "Noted."};
}

class Friends {
  public:
    Friends(size_t sessions, std::mt19937_64& rng) : rng_(rng), sessions_(sessions) {
        story_.opening = opening();
    }

    Story told() {
        while (story_.pieces.size() < sessions_) {
            switch (story_.pieces.size() % kSessionsAGroup) {
            case 0:
                tell_animal();
                break;
            case 1:
                tell_relative();
                break;
            case 2:
                tell_deed();
                break;
            default:
                tell_town();
            }
        }
        return std::move(story_);
    }

  private:
    std::string_view someone() { return speakers_[rng_() % 2]; }

    // One of the two says it, in a session of its own; the other one says nothing of interest.
    std::string tell(std::string_view speaker, const std::string& words) {
        const std::string_view other = speakers_[speaker == speakers_[0] ? 1 : 0];
        const std::string date = calendar_.next();
        story_.pieces.push_back({session(date, {other, filler_sentence(rng_)}, {speaker, words})});
        return date;
    }

    void ask(std::string question, std::string lead, std::string_view answer, size_t piece) {
        story_.questions.push_back({{std::move(question), std::string(answer)}, piece, std::move(lead)});
    }

    // What the assistant is for, and a session that is asked about in the way that others are.
    Turns opening() {
        const std::string date = calendar_.next();
        const std::string_view speaker = speakers_[0];
        return {{kvfold::format("Remember the conversations of {} and {}. Later answer in a few words.",
                                speaker, speakers_[1]),
                 "I will remember them."},
                session(date, {speakers_[1], "How are you?"},
                        {speaker, "Today I bought a boat. My boat is called Marigold."}),
                {kvfold::format("What is the name of {}'s boat?", speaker),
                 kvfold::format("{}'s boat is called Marigold.", speaker)},
                {kvfold::format("When did {} buy a boat?", speaker),
                 kvfold::format("{} bought a boat on {}.", speaker, date)}};
    }

    void tell_animal() {
        const auto speaker = someone(), animal = animals_.draw(), name = people_.draw();
        tell(speaker, kvfold::format("I have a new {}. My {} is called {}.", animal, animal, name));
        ask(kvfold::format("What is the name of {}'s {}?", speaker, animal),
            kvfold::format("{}'s {} is called", speaker, animal), name, story_.pieces.size() - 1);
    }

    void tell_relative() {
        speaker_ = someone();
        relative_ = relatives_.draw();
        name_ = people_.draw();
        tell(speaker_, kvfold::format("I had a visitor. My {} is called {}.", relative_, name_));
    }

    // Of whom the session before the last one told.
    void tell_town() {
        const auto town = towns_.draw();
        tell(someone(), kvfold::format("I had a letter. {} has moved to {}.", name_, town));
        ask(kvfold::format("To which town has {}'s {} moved?", speaker_, relative_),
            kvfold::format("{}'s {} has moved to", speaker_, relative_), town, story_.pieces.size() - 3);
    }

    void tell_deed() {
        const auto speaker = someone();
        const Deed& deed = deeds_[story_.pieces.size() / kSessionsAGroup];
        const std::string date = tell(speaker, kvfold::format("Today I {}.", deed.done));
        ask(kvfold::format("When did {} {}?", speaker, deed.plain),
            kvfold::format("{} {} on", speaker, deed.done), date, story_.pieces.size() - 1);
    }

    std::mt19937_64& rng_;
    size_t sessions_;
    Story story_;
    Calendar calendar_{rng_};
    Deck people_{kPeople, rng_}, animals_{kAnimals, rng_}, relatives_{kRelatives, rng_}, towns_{kTowns, rng_};
    std::array<Deed, kDeeds.size()> deeds_ = shuffled_deeds(rng_);
    std::array<std::string_view, 2> speakers_ = {people_.draw(), people_.draw()};
    std::string_view speaker_, relative_, name_; // of the relative whose town comes next

    static std::array<Deed, kDeeds.size()> shuffled_deeds(std::mt19937_64& rng) {
        auto deeds = kDeeds;
        shuffle_first(deeds, deeds.size(), rng);
        return deeds;
    }
};

Turn small_talk(std::mt19937_64& rng) { return {filler_sentence(rng), "Noted."}; }

Result<Task> make(const TaskSource& source) { return task_of_story(stories::memory, source); }

} // namespace

const StoryKind stories::memory = {
    .name = "memory",
    .chats = true,
    .fewest = kSessionsAGroup,
    .most = 4 * kSessionsAGroup,
    .make = [](size_t pieces, std::mt19937_64& rng) { return Friends(pieces, rng).told(); },
    .filler = small_talk,
    .judge = &judges::words,
};

const TaskKind tasks::memory = {
    .name = "memory",
    .about = "answer questions about a long conversation: facts, dates, and two facts together",
    .text_behind = 0,
    .needs_text = false,
    .asks = true,
    .make = make,
};

} // namespace kvfold
