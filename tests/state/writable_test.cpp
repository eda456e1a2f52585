// Whether a file can be written is known before the work that its content takes, and write_file says the
// same.
#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace kvfold {
namespace {

namespace fs = std::filesystem;

// Root may do anything: what others may not is tried as somebody else.
class AsNobody {
  public:
    AsNobody() {
        if (::geteuid() == 0) was_root_ = ::seteuid(65534) == 0;
    }
    ~AsNobody() {
        if (was_root_) {
            EXPECT_EQ(::seteuid(0), 0);
        }
    }

  private:
    bool was_root_ = false;
};

class Writable : public ::testing::Test {
  protected:
    void SetUp() override {
        folder = fs::path(::testing::TempDir()) / ("kvfold_writable_" + std::to_string(::getpid()));
        fs::create_directory(folder);
    }
    void TearDown() override { fs::remove_all(folder); }

    fs::path file(const char* name, mode_t mode = 0644) {
        const fs::path path = folder / name;
        std::ofstream(path) << "old";
        ::chmod(path.c_str(), mode);
        return path;
    }

    static std::string text_of(const fs::path& path) {
        const auto bytes = read_file(path);
        return bytes ? std::string(bytes->begin(), bytes->end()) : "?";
    }

    static void expect_refused(const fs::path& path, const char* words) {
        const Status before = check_can_write(path), at_last = write_file(path, "new");
        ASSERT_FALSE(before) << path;
        ASSERT_FALSE(at_last) << path;
        EXPECT_EQ(before.error().code, ErrorCode::io);
        EXPECT_EQ(before.error().message, at_last.error().message);
        EXPECT_NE(before.error().message.find(words), std::string::npos) << before.error().message;
    }

    static void expect_written(const fs::path& path) {
        const Status before = check_can_write(path);
        EXPECT_TRUE(before) << before.error().message;
        EXPECT_TRUE(write_file(path, "new"));
        EXPECT_EQ(text_of(path), "new");
    }

    fs::path folder;
};

TEST_F(Writable, NewFilesAndOldOnes) {
    expect_written(folder / "new");
    expect_written(file("old"));
    fs::create_symlink(file("target"), folder / "link");
    expect_written(folder / "link");
    EXPECT_TRUE(fs::is_symlink(folder / "link"));
    EXPECT_TRUE(check_can_write("a_file_here"));
}

TEST_F(Writable, LookingLeavesNothingBehind) {
    EXPECT_TRUE(check_can_write(folder / "new"));
    EXPECT_TRUE(check_can_write(file("old")));
    EXPECT_EQ(text_of(folder / "old"), "old");
    EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 1);
}

TEST_F(Writable, FoldersAndNamesOfNoFile) {
    expect_refused(folder, "is a folder");
    expect_refused(folder / "", "does not name a file");
    expect_refused("", "does not name a file");
    expect_refused(folder / "missing" / "x", "there is no folder");
    expect_refused(file("plain") / "x", "there is no folder");
}

TEST_F(Writable, DevicesAndPipes) {
    expect_refused("/dev/null", "is a device or a pipe");
    ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0644), 0);
    expect_refused(folder / "pipe", "is a device or a pipe");
    fs::create_symlink("/dev/null", folder / "link");
    expect_refused(folder / "link", "is a device or a pipe");
}

TEST_F(Writable, AReadOnlyFileIsKeptByRootToo) {
    const fs::path path = file("precious", 0444);
    expect_refused(path, "may not be written");
    EXPECT_EQ(text_of(path), "old");
}

TEST_F(Writable, WhatSomebodyElseOwns) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to be somebody else";
    ::chmod(folder.c_str(), 0755);
    const fs::path theirs = file("theirs");
    {
        const AsNobody nobody;
        expect_refused(folder / "new", "no permission to write into");
    }
    ::chmod(folder.c_str(), 0777);
    {
        const AsNobody nobody;
        expect_refused(theirs, "may not be written");
        expect_written(folder / "new");
    }
    EXPECT_EQ(text_of(theirs), "old");
}

} // namespace
} // namespace kvfold
