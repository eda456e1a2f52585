// What made-up texts are made of.
#include "measure/facts.h"

#include <gtest/gtest.h>

#include <set>
#include <sstream>

namespace kvfold {
namespace {

std::vector<Fact> facts_of(uint64_t seed, size_t count = kMostFacts) {
    std::mt19937_64 rng(seed);
    return make_facts(count, rng);
}

// Words that begin with a capital or a digit, but for the first: names and numbers.
std::set<std::string> names_in(const std::string& text) {
    std::istringstream words(text.substr(0, text.find_last_not_of('.') + 1));
    std::set<std::string> names;
    for (std::string word; words >> word;)
        if (std::isupper(static_cast<unsigned char>(word[0])) ||
            std::isdigit(static_cast<unsigned char>(word[0])))
            names.insert(word);
    names.erase("The");
    return names;
}

TEST(Facts, AreThoseOfTheirSeed) {
    const auto statements = [](uint64_t seed) {
        std::string all;
        for (const Fact& fact : facts_of(seed))
            all += fact.statement + "\n";
        return all;
    };
    EXPECT_EQ(statements(1), statements(1));
    EXPECT_NE(statements(1), statements(2));
}

TEST(Facts, ShareNoNameOrNumber) {
    for (uint64_t seed = 1; seed <= 20; ++seed) {
        std::set<std::string> seen;
        for (const Fact& fact : facts_of(seed)) {
            for (const std::string& name : names_in(fact.statement))
                EXPECT_TRUE(seen.insert(name).second) << name << " comes twice with seed " << seed;
        }
    }
}

TEST(Facts, AreAskedInOtherWordsAndTheQuestionDoesNotTellTheAnswer) {
    for (const Fact& fact : facts_of(3)) {
        EXPECT_NE(fact.statement.find(fact.answer), std::string::npos) << fact.statement;
        EXPECT_EQ(fact.question.find(fact.answer), std::string::npos) << fact.question;
        const size_t shared = fact.statement.find(fact.answer);
        EXPECT_EQ(fact.statement.substr(0, shared).find(fact.question), std::string::npos)
            << "asked as it was told: " << fact.question;
    }
}

TEST(Fillers, HardlyEverComeTwiceAndNameNothing) {
    std::mt19937_64 rng(5);
    std::set<std::string> seen;
    for (int i = 0; i < 200; ++i) {
        const std::string sentence = filler_sentence(rng);
        seen.insert(sentence);
        EXPECT_EQ(names_in(sentence.substr(1)).size(), 0u) << sentence; // behind its own capital
    }
    EXPECT_GE(seen.size(), 195u);
}

} // namespace
} // namespace kvfold
