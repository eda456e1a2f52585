// What the sources make of a context, without a model.
#include "study/snippets.h"
#include "study/text_like.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace kvfold {
namespace {

// Every token is its own position: what a passage copies shows where it comes from.
Tokens counting(size_t count) {
    Tokens tokens(count);
    std::iota(tokens.begin(), tokens.end(), 0);
    return tokens;
}

std::vector<Passage> random_passages(Source source, TokenSpan context, size_t count, uint64_t seed) {
    std::mt19937_64 rng(seed);
    const auto behind = static_cast<llama_pos>(context.size());
    return source == Source::pseudo ? pseudo_passages(context, behind, count, rng)
                                    : repeat_passages(context, behind, count, rng);
}

TEST(TailPassages, AreTheNewestTokensWhereTheyStand) {
    const Tokens context = counting(500);
    const auto passages = tail_passages(context, 60);
    ASSERT_EQ(passages.size(), 1u);
    EXPECT_EQ(passages[0].first_pos, 440);
    EXPECT_EQ(passages[0].tokens, Tokens(context.end() - 60, context.end()));
}

TEST(TailPassages, LeaveTheFirstTokenAlone) {
    const auto passages = tail_passages(counting(50), 1000);
    ASSERT_EQ(passages.size(), 1u);
    EXPECT_EQ(passages[0].first_pos, 1);
    EXPECT_EQ(passages[0].tokens.size(), 49u);
}

TEST(TailPassages, GoBackNoFurtherThanText) {
    Tokens context = counting(500);
    context[470] = context[300] = LLAMA_TOKEN_NULL;
    const auto passages = tail_passages(context, 60);
    ASSERT_EQ(passages.size(), 1u);
    EXPECT_EQ(passages[0].first_pos, 471);
    EXPECT_EQ(passages[0].tokens.size(), 29u);
    context.back() = LLAMA_TOKEN_NULL;
    EXPECT_TRUE(tail_passages(context, 60).empty());
}

// Words of a vocabulary without a model. Digits are tokens of their own, as in many models.
const std::vector<std::string> kWords = {" Then", " the",   " sea",   " was",  " grey", " and",  " wind",
                                         " rose", " again", ".",      " code", " of",   " Orla", " is",
                                         " 3",    "2",      " slate", " salt", " ebb",  " keel", " tar",
                                         " oar",  " at",    " then",  "Orla"};

Tokens sentence(std::initializer_list<const char*> words) {
    Tokens tokens;
    for (const char* text : words)
        tokens.push_back(
            static_cast<llama_token>(std::find(kWords.begin(), kWords.end(), text) - kWords.begin()));
    return tokens;
}

const Pieces kPieces = [](llama_token token) { return kWords[static_cast<size_t>(token)]; };
const Tokens kFiller = sentence(
    {" Then", " the", " sea", " was", " grey", " and", " the", " wind", " rose", " at", " 3", ".", "2", "."});
const Tokens kFact = sentence({" code", " of", " Orla", " is", " 3", ".", "2"});
const Tokens kRareWords = sentence({" slate", " salt", " ebb", " keel", " tar", " oar"});

// Filler with a fact after 13 and rare words after 27 of 40 sentences.
Tokens text_with_fact() {
    Tokens text;
    for (int i = 0; i < 40; ++i) {
        if (i == 13) text.insert(text.end(), kFact.begin(), kFact.end());
        if (i == 27) text.insert(text.end(), kRareWords.begin(), kRareWords.end());
        text.insert(text.end(), kFiller.begin(), kFiller.end());
    }
    return text;
}

bool hold(const std::vector<Passage>& passages, const Tokens& wanted) {
    return std::any_of(passages.begin(), passages.end(), [&](const Passage& passage) {
        return std::search(passage.tokens.begin(), passage.tokens.end(), wanted.begin(), wanted.end()) !=
               passage.tokens.end();
    });
}

TEST(RecitePassages, RestateNumbersAndNamesFirst) {
    const Tokens text = text_with_fact();
    std::mt19937_64 rng(1);
    const auto passages =
        recite_passages(text, kPieces, static_cast<llama_pos>(text.size()), kReciteSnippet, rng);
    ASSERT_EQ(passages.size(), 1u);
    EXPECT_EQ(passages[0].first_pos, static_cast<llama_pos>(text.size()));
    EXPECT_EQ(passages[0].tokens.size(), kReciteSnippet);
    EXPECT_TRUE(hold(passages, kFact));
}

// The broken twin: without what the tokens say, words that stand once count for more than a number.
TEST(RecitePassages, RestateRareWordsWhereTheTextOfTheTokensIsNotKnown) {
    const Tokens text = text_with_fact();
    std::mt19937_64 rng(1);
    const auto passages = recite_passages(text, no_pieces, 1000, kReciteSnippet, rng);
    EXPECT_FALSE(hold(passages, kFact));
    EXPECT_TRUE(hold(passages, kRareWords));
}

// Thirty sentences of words that come back, with `early` before and `late` behind others. Does recite take
// `word`?
bool recites(const char* word, const Tokens& early, const Tokens& late) {
    const Tokens often = sentence({" and", " the", " sea", " and", " the", " sea", " and", " the", "."});
    Tokens text;
    for (int i = 0; i < 30; ++i) {
        if (i == 10) text.insert(text.end(), early.begin(), early.end());
        text.insert(text.end(), often.begin(), often.end());
        if (i == 20) text.insert(text.end(), late.begin(), late.end());
    }
    std::mt19937_64 rng(1);
    return hold(recite_passages(text, kPieces, 1000, kReciteSnippet, rng), sentence({word}));
}

// As rare as each other, and the first of equal snippets is taken: the second can only win as a name.
TEST(RecitePassages, TakeACapitalForANameWhereNoSentenceBegins) {
    const Tokens early = sentence({" Then"}), name = sentence({" and", " Orla"}),
                 joined = sentence({"Orla"}); // ".Orla"
    EXPECT_TRUE(recites(" Orla", early, name));
    EXPECT_FALSE(recites(" Then", early, name));
    EXPECT_TRUE(recites("Orla", early, joined));
    EXPECT_FALSE(recites(" Then", early, joined));
}

TEST(RecitePassages, TakeNoCapitalForANameWhereASentenceBegins) {
    const Tokens early = sentence({" then"}), late = sentence({" Then"});
    EXPECT_TRUE(recites(" then", early, late));
    EXPECT_FALSE(recites(" Then", early, late));
}

TEST(RecitePassages, TakeSnippetsUntilTheCountIsReached) {
    const Tokens text = text_with_fact();
    std::mt19937_64 rng(1);
    for (const size_t count : {1u, 30u, 200u, 5000u}) {
        const auto passages = recite_passages(text, kPieces, 1000, count, rng);
        EXPECT_TRUE(hold(passages, kFact)) << count;
        const auto tokens = static_cast<size_t>(count_tokens(passages));
        EXPECT_GE(tokens, std::min(count, text.size() / 2)); // gaps between snippets are shorter than one
        EXPECT_LT(tokens, count + kReciteSnippet);
        for (const Passage& passage : passages)
            EXPECT_LE(passage.tokens.size(), 2 * kPassage);
    }
}

TEST(RecitePassages, SayNothingTwiceAndStandInAnotherOrderThanInTheText) {
    const Tokens text = counting(50 * kReciteSnippet);
    std::mt19937_64 rng(1), same(1), other(2);
    const auto passages = recite_passages(text, no_pieces, 1000, text.size(), rng);
    Tokens recited;
    for (const Passage& passage : passages)
        recited.insert(recited.end(), passage.tokens.begin(), passage.tokens.end());
    EXPECT_NE(recited, text);
    EXPECT_TRUE(std::is_permutation(recited.begin(), recited.end(), text.begin(), text.end()));
    EXPECT_TRUE(is_same(passages, recite_passages(text, no_pieces, 1000, text.size(), same)));
    EXPECT_FALSE(is_same(passages, recite_passages(text, no_pieces, 1000, text.size(), other)));
}

TEST(PrefillPassages, AreTheWholeContextFromItsStart) {
    const Tokens context = counting(5000);
    const auto passages = prefill_passages(context);
    ASSERT_EQ(passages.size(), 1u);
    EXPECT_EQ(passages[0].first_pos, 0);
    EXPECT_EQ(passages[0].tokens, context);
}

TEST(PseudoPassages, HaveTheLengthAskedForBehindTheSequence) {
    const Tokens context = text_like(700);
    for (const size_t count : {1u, 255u, 256u, 257u, 1024u, 3000u}) {
        const auto passages = random_passages(Source::pseudo, context, count, 1);
        EXPECT_EQ(count_tokens(passages), static_cast<Index>(count));
        for (const Passage& passage : passages) {
            EXPECT_EQ(passage.first_pos, 700);
            EXPECT_LE(passage.tokens.size(), 2 * kPassage);
            EXPECT_FALSE(passage.tokens.empty());
        }
    }
}

// Share of the neighbours in passages that are neighbours in the context as well.
double shared_bigrams(const std::vector<Passage>& passages, const Tokens& context) {
    std::set<std::pair<llama_token, llama_token>> known;
    for (size_t i = 0; i + 1 < context.size(); ++i)
        known.insert({context[i], context[i + 1]});
    double shared = 0, all = 0;
    for (const Passage& passage : passages) {
        for (size_t i = 0; i + 1 < passage.tokens.size(); ++i, ++all)
            shared += known.contains({passage.tokens[i], passage.tokens[i + 1]}) ? 1 : 0;
    }
    return shared / all;
}

TEST(PseudoPassages, AreMadeOfTheContextsTokensAndBigrams) {
    const Tokens context = text_like(700);
    auto passages = random_passages(Source::pseudo, context, 1000, 2);
    const std::set<llama_token> known(context.begin(), context.end());
    for (const Passage& passage : passages) {
        for (const llama_token token : passage.tokens)
            EXPECT_TRUE(known.contains(token));
    }
    // Only where the context ends is there no next token to take.
    EXPECT_GT(shared_bigrams(passages, context), 0.99);

    std::mt19937 rng(6); // broken twin: the same tokens in any order
    for (Passage& passage : passages)
        std::shuffle(passage.tokens.begin(), passage.tokens.end(), rng);
    EXPECT_LT(shared_bigrams(passages, context), 0.95);
}

TEST(PseudoPassages, DoNotCopyTheContext) {
    const Tokens context = text_like(700);
    for (const Passage& passage : random_passages(Source::pseudo, context, 512, 3)) {
        const auto copied =
            std::search(context.begin(), context.end(), passage.tokens.begin(), passage.tokens.begin() + 40);
        EXPECT_EQ(copied, context.end());
    }
}

// Places where a passage does not go on as the context does.
size_t count_breaks(const std::vector<Passage>& passages) {
    size_t breaks = 0;
    for (const Passage& passage : passages) {
        for (size_t i = 0; i + 1 < passage.tokens.size(); ++i)
            breaks += passage.tokens[i] + 1 != passage.tokens[i + 1] ? 1 : 0;
    }
    return breaks;
}

TEST(RepeatPassages, AreSnippetsOfTheContextBehindTheSequence) {
    const Tokens context = counting(2000);
    for (const size_t count : {1u, 63u, 64u, 127u, 187u, 1000u, 2000u, 9000u}) {
        const auto passages = random_passages(Source::repeat, context, count, 1);
        const auto total = static_cast<size_t>(count_tokens(passages));
        const size_t wanted = std::min<size_t>(count, context.size());
        const size_t snippets = std::max<size_t>(1, wanted / kRepeatSnippet);
        EXPECT_LE(total, wanted);
        EXPECT_GE(total + snippets, wanted); // rounded down snippet by snippet
        EXPECT_LE(count_breaks(passages), snippets - passages.size());
        for (const Passage& passage : passages) {
            EXPECT_EQ(passage.first_pos, 2000);
            ASSERT_FALSE(passage.tokens.empty());
            EXPECT_LE(passage.tokens.size(), 2 * kPassage);
        }
    }
}

// As many tokens of each of `parts` equal parts of the context.
bool cover_evenly(const std::vector<Passage>& passages, size_t context, size_t parts) {
    std::vector<size_t> counts(parts);
    for (const Passage& passage : passages) {
        for (const llama_token token : passage.tokens)
            ++counts[static_cast<size_t>(token) * parts / context];
    }
    return std::ranges::all_of(counts, [&](size_t count) { return count == counts.front() && count > 0; });
}

TEST(RepeatPassages, CoverEveryPartOfTheContext) {
    const Tokens context = counting(32000);
    for (uint64_t seed = 0; seed < 20; ++seed) {
        auto passages = random_passages(Source::repeat, context, 80 * kRepeatSnippet, seed);
        ASSERT_TRUE(cover_evenly(passages, 32000, 80)) << "seed " << seed;
        ASSERT_GT(passages.size(), 1u);
        passages[0] = passages[1]; // broken twin: some parts twice, some never
        ASSERT_FALSE(cover_evenly(passages, 32000, 80));
    }
}

TEST(RandomPassages, AreTheSameForTheSameSeedOnly) {
    const Tokens context = text_like(700);
    for (const Source source : {Source::pseudo, Source::repeat}) {
        const auto passages = random_passages(source, context, 200, 8);
        EXPECT_TRUE(is_same(passages, random_passages(source, context, 200, 8)));
        EXPECT_FALSE(is_same(passages, random_passages(source, context, 200, 9)));
    }
}

TEST(Sources, TakeTinyContexts) {
    for (const size_t size : {2u, 3u, 5u}) {
        const Tokens context = counting(size);
        for (const size_t count : {1u, 2u, 100u}) {
            const auto tail = tail_passages(context, count);
            EXPECT_GE(tail[0].first_pos, 1);
            EXPECT_EQ(static_cast<size_t>(tail[0].first_pos) + tail[0].tokens.size(), size);
            EXPECT_EQ(count_tokens(random_passages(Source::pseudo, context, count, 1)),
                      static_cast<Index>(count));
            const auto repeat = random_passages(Source::repeat, context, count, 1);
            EXPECT_EQ(count_tokens(repeat), static_cast<Index>(std::min(count, size)));
        }
        EXPECT_EQ(prefill_passages(context)[0].tokens, context);
    }
}

TEST(Studies, AreAppendedRowByRow) {
    Study study{{{Matrix::Constant(2, 3, 1)}, {Matrix::Constant(2, 4, 2)}}};
    append_study(study, {{{Matrix::Constant(1, 3, 5)}, {Matrix::Constant(1, 4, 6)}}});
    EXPECT_EQ(study.tokens(), 3);
    EXPECT_EQ(study.layers[0].rows(1, 2), 1);
    EXPECT_EQ(study.layers[0].rows(2, 2), 5);
    EXPECT_EQ(study.layers[1].rows(2, 3), 6);
}

TEST(Passages, LeaveOutPositionsWithoutText) {
    Tokens context = text_like(700);
    for (size_t i = 100; i < 300; ++i)
        context[i] = LLAMA_TOKEN_NULL;
    std::mt19937_64 rng(5);
    const StudyPlan plan{.parts = {{Source::tail, 0.2f}, {Source::pseudo, 0.2f}, {Source::repeat, 0.2f}}};
    for (const Passage& passage : plan_passages(plan, context, {700, 700}, /*back_to=*/1, no_pieces, rng)) {
        EXPECT_EQ(std::count(passage.tokens.begin(), passage.tokens.end(), LLAMA_TOKEN_NULL), 0);
        const auto end = passage.first_pos + static_cast<llama_pos>(passage.tokens.size());
        EXPECT_TRUE(passage.first_pos == 700 || end == 700) << passage.first_pos;
    }
}

TEST(Passages, StandBehindTheSequenceWhereItCannotGoBack) {
    const Tokens context = text_like(700);
    const StudyPlan plan{.parts = {{Source::tail, 0.1f}, {Source::repeat, 0.1f}}};
    for (const llama_pos back_to : {1, 630, 631, 700}) {
        std::mt19937_64 rng(5);
        const auto passages = plan_passages(plan, context, {700, 700}, back_to, no_pieces, rng);
        EXPECT_EQ(passages.front().tokens, Tokens(context.end() - 70, context.end()));
        EXPECT_EQ(passages.front().first_pos, back_to <= 630 ? 630 : 700);
        EXPECT_EQ(passages.back().first_pos, 700);
    }
}

} // namespace
} // namespace kvfold
