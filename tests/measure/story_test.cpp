// What made-up stories tell, as text.
#include "measure/story.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace kvfold {
namespace {

constexpr const StoryKind* kKinds[] = {&stories::memory, &stories::code, &stories::tools};

Story story_of(const StoryKind& kind, uint64_t seed, size_t pieces = 12) {
    std::mt19937_64 rng(seed);
    return kind.make(pieces, rng);
}

std::string text_of(const Turns& turns) {
    std::string text;
    for (const Turn& turn : turns)
        text += turn.user + "\n" + turn.assistant + "\n";
    return text;
}

std::string text_of(const std::vector<Turns>& pieces) {
    std::string text;
    for (const Turns& piece : pieces)
        text += text_of(piece);
    return text;
}

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

std::string between(const std::string& text, const std::string& before, const std::string& behind) {
    const size_t begin = text.find(before);
    EXPECT_NE(begin, std::string::npos) << text;
    const size_t from = begin + before.size();
    return text.substr(from, text.find(behind, from) - from);
}

// The texts of quotes and numbers in a call's arguments.
std::vector<std::string> arguments_of(const std::string& call) {
    const std::string arguments = call.substr(call.find("arguments") + 10);
    std::vector<std::string> values;
    for (size_t at = arguments.find(": "); at != std::string::npos; at = arguments.find(": ", at + 1)) {
        const std::string value = arguments.substr(at + 2, arguments.find_first_of(",}", at) - at - 2);
        if (value[0] != '{') values.push_back(value);
    }
    return values;
}

TEST(Stories, AreThoseOfTheirSeed) {
    for (const StoryKind* kind : kKinds) {
        const auto all = [&](uint64_t seed) { return text_of(story_of(*kind, seed).pieces); };
        EXPECT_EQ(all(1), all(1)) << kind->name;
        EXPECT_NE(all(1), all(2)) << kind->name;
    }
}

TEST(Stories, HaveAsManyPiecesAsAskedForAndQuestionsByTheirNumberAlone) {
    for (const StoryKind* kind : kKinds) {
        for (size_t pieces = kind->fewest; pieces <= kind->most; ++pieces) {
            const Story story = story_of(*kind, 1, pieces), other = story_of(*kind, 2, pieces);
            EXPECT_EQ(story.questions.size(), other.questions.size()) << kind->name;
            EXPECT_GT(story.questions.size(), 0u) << kind->name;
            EXPECT_LE(pieces - story.pieces.size(), 1u) << kind->name; // twins come in pairs
            for (const StoryQuestion& question : story.questions)
                EXPECT_LT(question.piece, story.pieces.size()) << kind->name;
        }
    }
}

TEST(Memory, TellsEachAnswerOnceAndTheQuestionDoesNot) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        const Story story = story_of(stories::memory, seed, stories::memory.most);
        const std::string text = text_of(story.opening) + text_of(story.pieces);
        std::set<std::string> questions;
        for (const auto& [turn, piece, lead] : story.questions) {
            const std::string date = turn.user.starts_with("When") ? "Conversation of " : " ";
            EXPECT_EQ(count_of(text, date + turn.assistant), 1u) << turn.assistant;
            EXPECT_EQ(turn.user.find(turn.assistant), std::string::npos) << turn.user;
            EXPECT_EQ(lead.find(turn.assistant), std::string::npos) << lead;
            EXPECT_TRUE(questions.insert(turn.user).second) << turn.user;
        }
    }
}

TEST(Memory, TellsWhereARelativeLivesInTwoSessions) {
    size_t asked = 0;
    const Story story = story_of(stories::memory, 3, 16);
    for (const auto& [turn, piece, lead] : story.questions) {
        if (!turn.user.starts_with("To which town")) continue;
        ++asked;
        const std::string relative = between(turn.user, "'s ", " moved");
        const std::string name = between(text_of(story.pieces[piece]), "My " + relative + " is called ", ".");
        const std::string told = name + " has moved to " + turn.assistant;
        EXPECT_EQ(count_of(text_of(story.pieces), told), 1u) << told;
        EXPECT_EQ(text_of(story.pieces[piece]).find(turn.assistant), std::string::npos)
            << "one session is enough";
    }
    EXPECT_EQ(asked, 4u);
}

TEST(Code, DefinesTwinsThatDifferInEveryPlace) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        const Story story = story_of(stories::code, seed);
        const std::string text = text_of(story.opening) + text_of(story.pieces);
        for (const auto& [turn, piece, lead] : story.questions) {
            const std::string name = between(turn.user, "= ", "\n"), list = turn.assistant;
            EXPECT_EQ(count_of(text, "def " + name + list + ":"), 1u) << name;
            EXPECT_NE(text_of(story.pieces[piece]).find(name), std::string::npos);
            const std::string family = name.substr(0, name.rfind('_') + 1);
            EXPECT_EQ(count_of(text, "def " + family), 2u) << family;
            std::string twin = "def " + family + between(text, "def " + family, "(");
            if (twin == "def " + name)
                twin = "def " + family + between(text.substr(text.find(twin) + 4), "def " + family, "(");
            const std::string other = "(" + between(text, twin + "(", ":");
            const auto first = [](const std::string& text) { return between(text, "(", ","); };
            const auto second = [](const std::string& text) { return between(text, ", ", "="); };
            EXPECT_EQ(first(list), second(other)) << list << " and " << other;
            EXPECT_EQ(second(list), first(other)) << list << " and " << other;
            EXPECT_NE(first(list), second(list));
            EXPECT_EQ(judges::call.score(other, list), 0); // broken twin: the twin's arguments
            EXPECT_EQ(judges::call.score(list, list), 1);
        }
    }
}

TEST(Tools, TellEachArgumentOnceInAResult) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        const Story story = story_of(stories::tools, seed);
        const std::string text = text_of(story.opening) + text_of(story.pieces);
        for (size_t i = 0; i < story.questions.size(); ++i) {
            const auto& [turn, piece, lead] = story.questions[i];
            const std::vector<std::string> arguments = arguments_of(turn.assistant);
            EXPECT_GE(arguments.size(), 1u) << turn.assistant;
            for (const std::string& argument : arguments) {
                if (turn.user.find(argument.substr(1, argument.size() - 2)) != std::string::npos)
                    continue; // the customer
                EXPECT_EQ(count_of(text, argument), 1u) << argument;
                EXPECT_NE(text_of(story.pieces[piece]).find(argument), std::string::npos) << argument;
            }
            EXPECT_EQ(judges::json.score(turn.assistant, turn.assistant), 1) << turn.assistant;
            const std::string& another = story.questions[(i + 2) % story.questions.size()].turn.assistant;
            EXPECT_EQ(judges::json.score(another, turn.assistant), 0); // broken twin: another customer's
        }
    }
}

} // namespace
} // namespace kvfold
