#include "launch/child.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

namespace kvfold::launch {
namespace {

// Sets a variable for one test.
class Variable {
  public:
    Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
    ~Variable() { unsetenv(name_); }
    Variable(const Variable&) = delete;
    Variable& operator=(const Variable&) = delete;

  private:
    const char* name_;
};

ProgramPlan plan_with(std::filesystem::path library) {
    ProgramPlan plan;
    plan.library = std::move(library);
    return plan;
}

std::vector<std::string> starting_with(const std::vector<std::string>& environment,
                                       const std::string& start) {
    std::vector<std::string> found;
    std::copy_if(environment.begin(), environment.end(), std::back_inserter(found),
                 [&](const std::string& entry) { return entry.starts_with(start); });
    return found;
}

TEST(ProgramEnvironment, HoldsOneLibraryAndOneObjectOfSettings) {
    const Variable stale("KVFOLD_PRELOAD", "from an outer kvfold run");
    unsetenv("LD_PRELOAD");
    const auto environment = program_environment(plan_with("/lib/a.so"));
    ASSERT_TRUE(environment);
    EXPECT_EQ(starting_with(*environment, "LD_PRELOAD="), std::vector<std::string>{"LD_PRELOAD=/lib/a.so"});
    EXPECT_EQ(starting_with(*environment, "KVFOLD_PRELOAD="),
              std::vector<std::string>{R"(KVFOLD_PRELOAD={"log":"info","virtual":1})"});
}

TEST(ProgramEnvironment, KeepsTheRestAndWhatIsPreloadedAlready) {
    const Variable other("LD_PRELOAD", "libother.so");
    const Variable similar("KVFOLD_PRELOAD_LIBRARY", "/lib/a.so");
    const auto environment = program_environment(plan_with("/lib/a.so"));
    ASSERT_TRUE(environment);
    EXPECT_EQ(starting_with(*environment, "LD_PRELOAD="),
              std::vector<std::string>{"LD_PRELOAD=libother.so:/lib/a.so"});
    EXPECT_EQ(starting_with(*environment, "KVFOLD_PRELOAD_LIBRARY=").size(), 1u);
}

TEST(ProgramEnvironment, GivesBackTheLibraryPathThatLedToKvfoldsLlama) {
    const Variable path("LD_LIBRARY_PATH", "/kvfolds/llama:/the/users");
    {
        const auto untouched = program_environment(plan_with("/lib/a.so"));
        ASSERT_TRUE(untouched);
        EXPECT_EQ(starting_with(*untouched, "LD_LIBRARY_PATH="),
                  std::vector<std::string>{"LD_LIBRARY_PATH=/kvfolds/llama:/the/users"});
    }
    for (const std::string before : {"/the/users", ""}) {
        const Variable given("KVFOLD_LIBRARY_PATH_BEFORE", before.c_str());
        const auto environment = program_environment(plan_with("/lib/a.so"));
        ASSERT_TRUE(environment);
        const auto expected =
            before.empty() ? std::vector<std::string>{} : std::vector{"LD_LIBRARY_PATH=" + before};
        EXPECT_EQ(starting_with(*environment, "LD_LIBRARY_PATH="), expected);
        EXPECT_EQ(starting_with(*environment, "KVFOLD_LIBRARY_PATH_BEFORE=").size(), 0u);
    }
}

TEST(ProgramEnvironment, RefusesAPathThatLdPreloadWouldSplit) {
    for (const char* path : {"/a folder/a.so", "/a:folder/a.so"}) {
        const auto environment = program_environment(plan_with(path));
        ASSERT_FALSE(environment);
        EXPECT_EQ(environment.error().code, ErrorCode::unsupported);
    }
}

TEST(StartProgram, SaysWhyTheSystemRefuses) {
    ProgramPlan plan = plan_with("/lib/a.so");
    plan.program = "/nowhere/program";
    plan.words = {"program"};
    const auto started = start_program(plan);
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().message, "/nowhere/program: cannot be started: No such file or directory");
}

} // namespace
} // namespace kvfold::launch
