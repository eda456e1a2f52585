// Judges of what is written, against cases made by hand.
#include "measure/judge.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

double f1(std::string_view written, std::string_view right) { return judges::words.score(written, right); }
double call(std::string_view written, std::string_view right) { return judges::call.score(written, right); }
double json(std::string_view written, std::string_view right) { return judges::json.score(written, right); }

TEST(WordsF1, IsThatOfSquadsNormalisation) {
    EXPECT_EQ(f1("Oslo", "Oslo"), 1);
    EXPECT_EQ(f1("the town of Oslo.", "Town of OSLO"), 1); // articles, punctuation, case
    EXPECT_EQ(f1("14 March, 2023", "March 14 2023"), 1);   // order does not matter
    EXPECT_NEAR(f1("She lives in Oslo.", "Oslo"), 2 * 0.25 / 1.25, 1e-12);
    EXPECT_NEAR(f1("14 May 2023", "14 March 2023"), 2.0 / 3, 1e-12);
    EXPECT_EQ(f1("Oslo Oslo", "Oslo"), 2.0 / 3); // a word counts as often as it comes
    EXPECT_EQ(f1("Lisbon", "Oslo"), 0);
    EXPECT_EQ(f1("", "Oslo"), 0);
    EXPECT_EQ(f1("Annabel", "Abel"), 0); // an article is a word, not a part of one
}

TEST(CallMatch, TakesTheSameArgumentsInTheSameOrder) {
    constexpr std::string_view right = "(amount, rate=12, year=34)";
    EXPECT_EQ(call("(amount, rate=12, year=34)", right), 1);
    EXPECT_EQ(call("( amount,rate = 12,\tyear=34 ) # done", right), 1);
    EXPECT_EQ(call("(amount, year=34, rate=12)", right), 0);
    EXPECT_EQ(call("(amount, rate=12, year=35)", right), 0);
    EXPECT_EQ(call("(amount, rate=12)", right), 0);
    EXPECT_EQ(call("(amount, rate=12, year=34", right), 0); // not finished
    EXPECT_EQ(call("", right), 0);
    EXPECT_EQ(call("no call", "no call"), 0);
    EXPECT_EQ(call("(f(a), \"x )\")", "(f(a),\"x )\")"), 1);
    EXPECT_EQ(call("(\"x )\")", "(\"x)\")"), 0); // white space in a string is of the string
    EXPECT_EQ(call("(\"a\\\")\")", "(\"a\\\")\")"), 1);
}

TEST(JsonMatch, ComparesValuesAndNotText) {
    constexpr std::string_view right =
        R"({"tool": "refund", "arguments": {"order": "K-1", "amount": 12.50}})";
    EXPECT_EQ(json(right, right), 1);
    EXPECT_EQ(json(R"(Sure: {"arguments":{"amount":12.5,"order":"K-1"},"tool":"refund"} as asked)", right),
              1);
    EXPECT_EQ(json(R"({"tool": "refund", "arguments": {"order": "K-2", "amount": 12.50}})", right), 0);
    EXPECT_EQ(json(R"({"tool": "refund", "arguments": {"order": "K-1", "amount": "12.50"}})", right), 0);
    EXPECT_EQ(json(R"({"tool": "refund", "arguments": {"order": "K-1"}})", right), 0);
    EXPECT_EQ(json(R"({"tool": "refund", "arguments": {"order": "K-1", "amount": 12.50})", right), 0);
    EXPECT_EQ(json("", right), 0);
    EXPECT_EQ(json(R"({"path": "a}b"})", R"({"path":"a}b"})"), 1);
}

} // namespace
} // namespace kvfold
