#include "base/file.h"

#include <gtest/gtest.h>

#include <csignal>
#include <fstream>
#include <sys/resource.h>
#include <sys/stat.h>

namespace kvfold {
namespace {

namespace fs = std::filesystem;

class File : public ::testing::Test {
  protected:
    File() {
        std::string pattern = (fs::temp_directory_path() / "kvfold-file-XXXXXX").string();
        folder_ = mkdtemp(pattern.data());
    }
    ~File() override { fs::remove_all(folder_); }

    fs::path in_folder(const char* name) const { return folder_ / name; }
    size_t entries() const {
        return static_cast<size_t>(std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
    }
    static std::string text_of(const fs::path& path) {
        const auto bytes = read_file(path);
        EXPECT_TRUE(bytes) << bytes.error().message;
        return bytes ? std::string(bytes->begin(), bytes->end()) : "";
    }

    fs::path folder_;
};

// Files of this process can grow no further, as on a full disk.
class NoMoreSpace {
  public:
    explicit NoMoreSpace(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &old_);
        const rlimit tight{bytes, old_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &tight);
    }
    ~NoMoreSpace() {
        setrlimit(RLIMIT_FSIZE, &old_);
        std::signal(SIGXFSZ, old_handler_);
    }

  private:
    void (*old_handler_)(int);
    rlimit old_ = {};
};

TEST_F(File, WrittenBytesAreReadBack) {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{1000003}}) {
        std::vector<uint8_t> bytes(size);
        for (size_t i = 0; i < size; ++i)
            bytes[i] = static_cast<uint8_t>(i * 31);
        ASSERT_TRUE(write_file(in_folder("a"), bytes));
        const auto back = read_file(in_folder("a"));
        ASSERT_TRUE(back) << back.error().message;
        EXPECT_EQ(*back, bytes);
        EXPECT_EQ(entries(), 1u);
    }
}

TEST_F(File, ExistingFileIsReplaced) {
    ASSERT_TRUE(write_file(in_folder("a"), "old and longer"));
    ASSERT_TRUE(write_file(in_folder("a"), "new"));
    EXPECT_EQ(text_of(in_folder("a")), "new");
    EXPECT_EQ(entries(), 1u);
}

TEST_F(File, FullDiskLeavesTheOldFileAndNoTemporaryOne) {
    ASSERT_TRUE(write_file(in_folder("a"), "old"));
    {
        const NoMoreSpace full(4096);
        const Status status = write_file(in_folder("a"), std::string(100000, 'x'));
        ASSERT_FALSE(status);
        EXPECT_EQ(status.error().code, ErrorCode::io);
        EXPECT_NE(status.error().message.find(in_folder("a").string()), std::string::npos)
            << status.error().message;
        EXPECT_NE(status.error().message.find("File too large"), std::string::npos) << status.error().message;
    }
    EXPECT_EQ(text_of(in_folder("a")), "old");
    EXPECT_EQ(entries(), 1u);
}

TEST_F(File, FullDiskLeavesNothingWhereNothingWas) {
    {
        const NoMoreSpace full(4096);
        ASSERT_FALSE(write_file(in_folder("a"), std::string(100000, 'x')));
    }
    EXPECT_EQ(entries(), 0u);
}

// The broken twin: written without a temporary file, the old content is lost. Shows that the two tests above
// see it.
TEST_F(File, PlainWriteOnAFullDiskLosesTheOldFile) {
    ASSERT_TRUE(write_file(in_folder("a"), "old"));
    {
        const NoMoreSpace full(4096);
        std::ofstream(in_folder("a")) << std::string(100000, 'x');
    }
    EXPECT_NE(text_of(in_folder("a")), "old");
}

TEST_F(File, MissingFolderIsNamed) {
    const Status status = write_file(in_folder("none") / "a", "text");
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::io);
    EXPECT_NE(status.error().message.find("there is no folder"), std::string::npos) << status.error().message;
    EXPECT_EQ(entries(), 0u);
}

TEST_F(File, FolderIsNotReplaced) {
    fs::create_directory(in_folder("a"));
    EXPECT_EQ(write_file(in_folder("a"), "text").error().code, ErrorCode::io);
    EXPECT_TRUE(fs::is_directory(in_folder("a")));
    EXPECT_FALSE(write_file(folder_ / "", "text"));
    EXPECT_EQ(entries(), 1u);
}

TEST_F(File, DeviceIsNotReplaced) {
    ASSERT_EQ(mkfifo(in_folder("pipe").c_str(), 0600), 0); // as /dev/null would be, were it not the real one
    EXPECT_EQ(write_file(in_folder("pipe"), "text").error().code, ErrorCode::io);
    EXPECT_TRUE(fs::is_fifo(in_folder("pipe")));
}

TEST_F(File, LinkStaysALink) {
    ASSERT_TRUE(write_file(in_folder("real"), "old"));
    fs::create_symlink("real", in_folder("link"));
    ASSERT_TRUE(write_file(in_folder("link"), "new"));
    EXPECT_TRUE(fs::is_symlink(in_folder("link")));
    EXPECT_EQ(text_of(in_folder("real")), "new");
    EXPECT_EQ(entries(), 2u);
}

TEST_F(File, PermissionsAreKept) {
    const mode_t old_mask = umask(022);
    ASSERT_TRUE(write_file(in_folder("a"), "old"));
    EXPECT_EQ(fs::status(in_folder("a")).permissions(), fs::perms{0644});
    fs::permissions(in_folder("a"), fs::perms{0600});
    ASSERT_TRUE(write_file(in_folder("a"), "new"));
    EXPECT_EQ(fs::status(in_folder("a")).permissions(), fs::perms{0600});
    umask(old_mask);
}

TEST_F(File, UnreadableFilesAreNamed) {
    const auto missing = read_file(in_folder("none"));
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().code, ErrorCode::io);
    EXPECT_NE(missing.error().message.find(in_folder("none").string()), std::string::npos);
    EXPECT_NE(missing.error().message.find("No such file"), std::string::npos) << missing.error().message;
    EXPECT_EQ(read_file(folder_).error().code, ErrorCode::io);
}

TEST_F(File, NameWithoutFolderGoesToTheWorkingFolder) {
    const fs::path before = fs::current_path();
    fs::current_path(folder_);
    EXPECT_TRUE(write_file("a", "text"));
    fs::current_path(before);
    EXPECT_EQ(text_of(in_folder("a")), "text");
}

} // namespace
} // namespace kvfold
