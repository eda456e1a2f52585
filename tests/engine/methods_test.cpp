#include "fit/on_policy.h"
#include "fit/sequential.h"
#include "method/method.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace kvfold {
namespace {

TEST(Methods, HaveNamesOfTheirOwnAndAdviceOnOneLine) {
    std::set<std::string_view> names;
    for (const Method* method : all_methods()) {
        EXPECT_TRUE(names.insert(method->name).second) << method->name << " is there twice";
        EXPECT_FALSE(method->name.empty());
        EXPECT_FALSE(method->advice.empty()) << method->name;
        EXPECT_EQ(method->advice.find('\n'), std::string_view::npos) << method->name;
        const auto found = find_method(method->name);
        ASSERT_TRUE(found) << found.error().message;
        EXPECT_EQ(*found, method);
    }
}

TEST(Methods, BeginWithTheDefault) {
    EXPECT_EQ(&default_method(), all_methods().front());
    EXPECT_EQ(default_method().keep, Keep::fit);
}

TEST(Methods, ThatFollowTheModelCostWhatTheirNamesSay) {
    const auto budget = [](std::string_view name) { return find_method(name).value()->budget; };
    EXPECT_EQ(budget("fast"), 0.25);
    EXPECT_EQ(budget("balanced"), 1);
    EXPECT_EQ(budget("best"), 3);
    EXPECT_EQ(budget("refine"), 0);
    EXPECT_EQ(*find_method("balanced"), &default_method());
}

TEST(Methods, ThatFitHaveSomethingToStudy) {
    for (const Method* method : all_methods()) {
        const bool studies = method->study.reads_text() || method->study.draft_share > 0;
        EXPECT_EQ(method->keep == Keep::fit, studies) << method->name;
    }
}

// Drafts are written on a compact cache, and neither there is one layer by layer, nor a fit of them twice.
TEST(Methods, ThatAreAskedOnPolicyReadTextAndDraftNothing) {
    for (const Method* method : all_methods()) {
        if (method->fit != fit_on_policy && method->fit != fit_sequentially) continue;
        EXPECT_TRUE(method->study.reads_text()) << method->name;
        EXPECT_EQ(method->study.draft_share, 0) << method->name;
    }
}

TEST(Methods, ThatDoNotExistAreRefusedWithThoseThatDo) {
    for (const std::string name : {"", "selec", "SELECT", "select "}) {
        const auto found = find_method(name);
        ASSERT_FALSE(found);
        EXPECT_EQ(found.error().code, ErrorCode::invalid_argument);
        EXPECT_NE(found.error().message.find("'" + name + "'"), std::string::npos);
        for (const Method* method : all_methods())
            EXPECT_NE(found.error().message.find(method->name), std::string::npos) << method->name;
    }
}

} // namespace
} // namespace kvfold
