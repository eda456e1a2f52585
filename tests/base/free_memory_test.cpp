#include "base/free_memory.h"

#include <gtest/gtest.h>

#include <fstream>
#include <unistd.h>

namespace kvfold {
namespace {

class FreeMemory : public ::testing::Test {
  protected:
    void SetUp() override {
        root_ = std::filesystem::temp_directory_path() / ("kvfold-free-memory-" + std::to_string(::getpid()));
        write("proc/meminfo", "MemTotal:       24000 kB\nMemFree:   100 kB\nMemAvailable:   2000 kB\n");
    }
    void TearDown() override { std::filesystem::remove_all(root_); }
    void write(const std::filesystem::path& name, const char* text) {
        std::filesystem::create_directories((root_ / name).parent_path());
        std::ofstream(root_ / name) << text;
    }
    std::filesystem::path root_;
};

TEST_F(FreeMemory, IsWhatTheSystemCouldGive) { EXPECT_EQ(free_memory(root_), 2000 * 1024); }

TEST_F(FreeMemory, IsNoMoreThanTheGroupMayTake) {
    write("proc/self/cgroup", "0::/user/one\n");
    write("sys/fs/cgroup/user/one/memory.max", "1000000\n");
    write("sys/fs/cgroup/user/one/memory.current", "400000\n");
    EXPECT_EQ(free_memory(root_), 600000);
    write("sys/fs/cgroup/user/one/memory.current", "2000000\n");
    EXPECT_EQ(free_memory(root_), 0);
    write("sys/fs/cgroup/user/one/memory.max", "max\n");
    EXPECT_EQ(free_memory(root_), 2000 * 1024);
    write("sys/fs/cgroup/user/memory.max", "700000\n"); // of the group around it
    write("sys/fs/cgroup/user/memory.current", "600000\n");
    EXPECT_EQ(free_memory(root_), 100000);
}

TEST_F(FreeMemory, IsNotKnownWithoutTheSystemsWord) {
    write("proc/meminfo", "MemTotal: 24000 kB\n");
    EXPECT_FALSE(free_memory(root_));
    EXPECT_FALSE(free_memory(root_ / "nowhere"));
}

} // namespace
} // namespace kvfold
