#include "preload/environment.h"

#include <gtest/gtest.h>

#include <fstream>

namespace kvfold::preload {
namespace {

TEST(Environment, TheLibraryIsTakenOutAndTheOthersStay) {
    EXPECT_EQ(without_library("", "/a/k.so"), "");
    EXPECT_EQ(without_library("/a/k.so", "/a/k.so"), "");
    EXPECT_EQ(without_library("/b.so:/a/k.so", "/a/k.so"), "/b.so");
    EXPECT_EQ(without_library("/a/k.so:/b.so", "/a/k.so"), "/b.so");
    EXPECT_EQ(without_library("/b.so /a/k.so:/c.so", "/a/k.so"), "/b.so:/c.so");
    EXPECT_EQ(without_library("/b.so c.so:/a/k.so", "/a/k.so"), "/b.so c.so");
    EXPECT_EQ(without_library(":/a/k.so: :/b.so:", "/a/k.so"), "/b.so");
    EXPECT_EQ(without_library("/a/k.so:/b.so:/a/k.so", "/a/k.so"), "/b.so");
}

TEST(Environment, OnlyTheLibraryItselfIsTakenOut) {
    EXPECT_EQ(without_library("/b/k.so:/a/k.so.1:k.so:/a", "/a/k.so"), "/b/k.so:/a/k.so.1:k.so:/a");
}

TEST(Environment, AnotherPathToTheLibraryIsTheLibrary) {
    const auto folder = std::filesystem::path(testing::TempDir()) / "environment_test";
    std::filesystem::create_directories(folder);
    const auto library = folder / "k.so", other = folder / "b.so", link = folder / "link.so";
    std::ofstream(library) << "k";
    std::ofstream(other) << "b";
    std::filesystem::remove(link);
    std::filesystem::create_symlink(library, link);
    const std::string long_way = (folder / ".." / "environment_test" / "k.so").string();
    EXPECT_EQ(without_library(link.string() + ":" + other.string() + ":" + long_way, library),
              other.string());
    std::filesystem::remove_all(folder);
}

} // namespace
} // namespace kvfold::preload
