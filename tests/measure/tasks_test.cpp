// What each task puts into the context and asks behind it.
#include "measure/chat_script.h"
#include "measure/facts.h"
#include "measure/model_text.h"
#include "model/model.h"

namespace kvfold {
namespace {

using Tokens = std::vector<llama_token>;

class Tasks : public ::testing::Test {
  protected:
    void SetUp() override {
        model_ = testing::load_model("KVFOLD_PLAIN_MODEL");
        text_ = testing::filler_tokens(model_.get(), 1024);
    }

    testing::ModelPtr model_;
    Tokens text_;
};

size_t count_of(const std::string& text, const std::string& part) {
    size_t count = 0;
    for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
        ++count;
    return count;
}

Tokens joined(const Probe& probe) {
    Tokens tokens = probe.prompt;
    tokens.insert(tokens.end(), probe.answer.begin(), probe.answer.end());
    return tokens;
}

TEST_F(Tasks, ContinuationIsTheTextWithoutAGap) {
    const Task task = testing::task_of(tasks::continuation, model_.get(), text_, 700);
    Tokens read = task.context;
    for (const llama_token token : joined(task.probes.at(0)))
        read.push_back(token);
    EXPECT_EQ(read, Tokens(text_.begin(), text_.begin() + 700 + 257));
    EXPECT_EQ(task.probes[0].answer.size(), 256u);
}

TEST_F(Tasks, CopyAsksForWhatStandsAtItsDepth) {
    const Task task = testing::task_of(tasks::copy, model_.get(), text_, 700);
    ASSERT_EQ(task.probes.size(), 4u);
    for (const Probe& probe : task.probes) {
        const Tokens passage = joined(probe);
        EXPECT_EQ(passage.size(), 64u);
        const auto found =
            std::search(task.context.begin(), task.context.end(), passage.begin(), passage.end());
        ASSERT_NE(found, task.context.end());
        EXPECT_NEAR(static_cast<double>(found - task.context.begin()) / 700, probe.depth, 0.03);
    }
}

TEST_F(Tasks, QuestionsPlantEveryFactExactlyOnceAtItsDepth) {
    for (const uint64_t seed : {1u, 7u}) {
        const Task task = testing::task_of(tasks::questions, model_.get(), {}, 2048, seed);
        EXPECT_EQ(task.context.size(), 2048u);
        std::mt19937_64 rng(seed);
        const std::vector<Fact> facts = make_facts(task.probes.size(), rng);
        EXPECT_EQ(facts.size(), 16u);
        const std::string text = detokenize(model_.get(), task.context);
        for (size_t i = 0; i < facts.size(); ++i) {
            EXPECT_EQ(count_of(text, facts[i].statement), 1u) << facts[i].statement;
            EXPECT_EQ(count_of(text, facts[i].answer), 1u) << facts[i].answer;
            const auto place =
                static_cast<double>(text.find(facts[i].statement)) / static_cast<double>(text.size());
            EXPECT_NEAR(place, task.probes[i].depth, 0.03) << facts[i].statement;
            EXPECT_EQ(detokenize(model_.get(), joined(task.probes[i])),
                      "\n\n" + facts[i].question + " " + facts[i].answer);
        }
    }
}

TEST_F(Tasks, MadeUpTextsAreThoseOfTheirSeed) {
    for (const TaskKind* kind : {&tasks::questions, &tasks::memory, &tasks::code, &tasks::tools}) {
        const auto context = [&](uint64_t seed) {
            return testing::task_of(*kind, model_.get(), {}, 4096, seed).context;
        };
        EXPECT_EQ(context(1), context(1)) << kind->name;
        EXPECT_NE(context(1), context(2)) << kind->name;
    }
}

TEST_F(Tasks, StoriesFillTheContextAndAskAsManyQuestionsWithEverySeed) {
    for (const TaskKind* kind : {&tasks::memory, &tasks::code, &tasks::tools}) {
        const size_t questions = testing::task_of(*kind, model_.get(), {}, 4096, 1).probes.size();
        EXPECT_GE(questions, 3u);
        for (uint64_t seed = 2; seed <= 8; ++seed) {
            const Task task = testing::task_of(*kind, model_.get(), {}, 4096, seed);
            EXPECT_EQ(task.probes.size(), questions) << kind->name;
            EXPECT_LE(task.context.size(), 4096u) << kind->name;
            EXPECT_GE(task.context.size(), 3900u) << kind->name; // but for less than a filler
            EXPECT_NE(task.judge, nullptr) << kind->name;
            for (const Probe& probe : task.probes) {
                EXPECT_GE(probe.depth, 0) << kind->name;
                EXPECT_LT(probe.depth, 1) << kind->name;
            }
        }
    }
}

// The pieces stand in the context as the story tells them, at the depth that the probe says.
TEST_F(Tasks, StoriesKeepTheirWordsAndTheirDepths) {
    const Task task = testing::task_of(tasks::code, model_.get(), {}, 2048, 3);
    const std::string text = detokenize(model_.get(), task.context);
    for (const Probe& probe : task.probes) {
        const std::string call = detokenize(model_.get(), joined(probe));
        const std::string definition = "def " + call.substr(call.find("= ") + 2) + ":";
        EXPECT_EQ(count_of(text, definition), 1u) << definition;
        const auto place = static_cast<double>(text.find(definition)) / static_cast<double>(text.size());
        EXPECT_NEAR(place, probe.depth, 0.05) << definition;
    }
}

TEST_F(Tasks, RefuseContextsThatAreTooSmallForThem) {
    for (const TaskKind* kind :
         {&tasks::questions, &tasks::copy, &tasks::memory, &tasks::code, &tasks::tools}) {
        const Result<Task> task = kind->make({model_.get(), text_, 100, 1});
        ASSERT_FALSE(task) << kind->name;
        EXPECT_EQ(task.error().code, ErrorCode::invalid_argument);
        EXPECT_NE(task.error().message.find("raise -c 100"), std::string::npos) << task.error().message;
    }
}

TEST_F(Tasks, ChatTellsEachPinnedFactOnceAndThenNeverAgain) {
    ChatScript script(model_.get(), 3);
    std::string all;
    for (int turn = 0; turn < 40; ++turn) {
        const std::string words = detokenize(model_.get(), joined(script.next()));
        EXPECT_LT(words.size(), 800u);
        all += words;
    }
    std::mt19937_64 rng(3);
    const std::vector<Fact> facts = make_facts(script.recall().size(), rng);
    for (size_t i = 0; i < facts.size(); ++i) {
        EXPECT_EQ(count_of(all, facts[i].statement), 1u);
        EXPECT_LT(all.find(facts[i].statement), all.size() / 4);
        EXPECT_EQ(count_of(all, facts[i].answer), 1u) << facts[i].answer;
        EXPECT_TRUE(detokenize(model_.get(), script.recall()[i].answer).ends_with(facts[i].answer));
    }
}

TEST_F(Tasks, ChatIsTheTemplatesOwnText) {
    ChatScript script(model_.get(), 3);
    std::vector<ChatMessage> messages;
    Tokens all;
    for (int turn = 0; turn < 3; ++turn) {
        const Probe probe = script.next();
        const std::string prompt = detokenize(model_.get(), probe.prompt);
        all.insert(all.end(), probe.prompt.begin(), probe.prompt.end());
        const std::string whole = detokenize(model_.get(), all);
        EXPECT_TRUE(whole.ends_with(prompt));
        const std::string user = prompt.substr(prompt.rfind("user\n") + 5);
        messages.push_back({"user", user.substr(0, user.find("\nassistant"))});
        const std::string in_template = apply_chat_template(model_.get(), messages, /*assistant_next=*/true);
        const Tokens as_template = tokenize(model_.get(), in_template, /*add_bos=*/true, /*special=*/true);
        EXPECT_EQ(all, as_template) << whole;
        all.insert(all.end(), probe.answer.begin(), probe.answer.end());
        messages.push_back({"assistant", detokenize(model_.get(), probe.answer)});
    }
}

} // namespace
} // namespace kvfold
