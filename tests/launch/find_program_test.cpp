#include "base/format.h"
#include "launch/find_program.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <unistd.h>

namespace kvfold::launch {
namespace {

namespace fs = std::filesystem;

// A folder of the test's own with an executable and a plain file in it; environment variables as they were
// afterwards.
class FindProgram : public testing::Test {
  protected:
    void SetUp() override {
        std::string name = (fs::temp_directory_path() / "kvfold-find-XXXXXX").string();
        folder_ = mkdtemp(name.data());
        path_before_ = std::getenv("PATH");
        for (const char* file : {"tool", "plain", "bin/llama-server"}) {
            fs::create_directories((folder_ / file).parent_path());
            std::ofstream(folder_ / file) << "x";
            if (file != std::string("plain")) fs::permissions(folder_ / file, fs::perms::owner_all);
        }
    }
    void TearDown() override {
        setenv("PATH", path_before_.c_str(), 1);
        unsetenv("KVFOLD_LLAMA_PREFIX");
        unsetenv("KVFOLD_PRELOAD_LIBRARY");
        fs::remove_all(folder_);
    }

    fs::path folder_;
    std::string path_before_;
};

TEST_F(FindProgram, ANameIsLookedForInPathInOrder) {
    setenv("PATH", kvfold::format("/nowhere:{}:{}", (folder_ / "bin").string(), folder_.string()).c_str(), 1);
    EXPECT_EQ(find_program("tool"), folder_ / "tool");
    EXPECT_FALSE(find_program("plain")); // not executable
    EXPECT_FALSE(find_program("bin"));   // a folder
    EXPECT_FALSE(find_program("absent"));
}

TEST_F(FindProgram, AWordWithASlashIsAPath) {
    EXPECT_EQ(find_program((folder_ / "tool").string()), folder_ / "tool");
    EXPECT_NE(find_program((folder_ / "plain").string()).error().message.find("not executable"),
              std::string::npos);
    EXPECT_NE(find_program((folder_ / "bin").string()).error().message.find("folder"), std::string::npos);
    EXPECT_NE(find_program((folder_ / "absent").string()).error().message.find("no such"), std::string::npos);
}

TEST_F(FindProgram, TheServerOfTheChosenPrefixComesFirst) {
    setenv("KVFOLD_LLAMA_PREFIX", folder_.c_str(), 1);
    EXPECT_EQ(find_llama_server(), folder_ / "bin" / "llama-server");
}

TEST_F(FindProgram, APrefixWithoutAServerIsAnErrorRatherThanAnotherServer) {
    setenv("KVFOLD_LLAMA_PREFIX", (folder_ / "bin").c_str(), 1);
    setenv("PATH", (folder_ / "bin").c_str(), 1);
    ASSERT_FALSE(find_llama_server());
    EXPECT_NE(find_llama_server().error().message.find("KVFOLD_LLAMA_PREFIX"), std::string::npos);
}

TEST_F(FindProgram, TheChosenPreloadLibraryIsTakenAndMustExist) {
    setenv("KVFOLD_PRELOAD_LIBRARY", (folder_ / "plain").c_str(), 1);
    EXPECT_EQ(find_preload_library(), folder_ / "plain");
    setenv("KVFOLD_PRELOAD_LIBRARY", (folder_ / "absent").c_str(), 1);
    EXPECT_FALSE(find_preload_library());
}

} // namespace
} // namespace kvfold::launch
