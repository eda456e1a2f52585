// Archives beside the slot files that a program saves.
#include "preload/archived.h"

#include <fstream>
#include <unistd.h>

namespace kvfold::preload {
namespace {

// A slot file of a sequence that was folded, in a folder with its archive.
class ArchivedInAFolder : public Archived {
  protected:
    void SetUp() override {
        archive_folder_ = std::filesystem::path(::testing::TempDir()) /
                          kvfold::format("kvfold-preload-archives-{}", ::getpid());
        std::filesystem::remove_all(archive_folder_);
        ASSERT_TRUE(std::filesystem::create_directories(archive_folder_));
        Archived::SetUp();
        if (HasFatalFailure()) return;
        feed_all(300);
        before_ = cells();
        fold();
        ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 300}), 0u);
    }
    void TearDown() override {
        Archived::TearDown();
        std::filesystem::remove_all(archive_folder_);
        std::filesystem::remove(slot_);
    }

    // The program starts anew.
    void restart(size_t archive_bytes = kPlenty) { manage({}, /*unified=*/true, archive_bytes); }

    void restore(const std::filesystem::path& slot) {
        std::vector<llama_token> words(300);
        size_t count = 0;
        ASSERT_GT(program_->load(slot.c_str(), 0, words, count), 0u);
    }

    void expect_nothing_to_take_back(const std::filesystem::path& slot) {
        restart();
        restore(slot);
        EXPECT_GT(program_->pos_min(0), 200);
        EXPECT_EQ(total("archive_bytes"), 0);
    }

    KvSection before_;
    const std::string name_ = kvfold::format("kvfold-archived-{}.slot", ::getpid());
    const std::filesystem::path slot_ = std::filesystem::path(::testing::TempDir()) / name_;
    std::filesystem::path file(const std::string& slot) const {
        for (const auto& entry : std::filesystem::directory_iterator(archive_folder_))
            if (entry.path().filename().string().starts_with(slot + ".")) return entry.path();
        return {};
    }
    std::filesystem::path file() const { return file(name_); }
};

TEST_F(ArchivedInAFolder, ARestoredSlotBringsItsOwnAlsoWhenTheProgramIsAnother) {
    restart();
    ASSERT_EQ(total("archive_bytes"), 0);
    restore(slot_);
    EXPECT_GT(total("archive_bytes"), 0);
    EXPECT_EQ(program_->pos_min(0), 0);
    ASSERT_TRUE(program_->remove(0, 150, -1));
    expect_same(before_, cells(), 150);
    EXPECT_EQ(real_cells(), 150u);
    EXPECT_EQ(total("rereads"), 0);
    archive_folder_.clear(); // broken twin: it was not looked for
    expect_nothing_to_take_back(slot_);
}

TEST_F(ArchivedInAFolder, ARestoredSlotIsRecalledFrom) {
    const auto recalls_of_a_prompt = [&] {
        manage({}, /*unified=*/true, kPlenty, /*recalled=*/8);
        restore(slot_);
        EXPECT_EQ(feed(300, 330), 0);
        return total("recalls").get<int>();
    };
    EXPECT_GT(recalls_of_a_prompt(), 0);
    archive_folder_.clear(); // broken twin
    EXPECT_EQ(recalls_of_a_prompt(), 0);
}

TEST_F(ArchivedInAFolder, WhatDoesNotBelongOrIsDamagedIsLeftAlone) {
    const std::filesystem::path first = archive_folder_ / "first";
    ASSERT_GT(program_->save(first.c_str(), 0, {tokens_.data(), 300}), 0u);
    const std::filesystem::path archive = file("first");
    feed_all(400, 300);
    fold();
    ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 400}), 0u);
    std::filesystem::copy_file(file(), archive, std::filesystem::copy_options::overwrite_existing);
    expect_nothing_to_take_back(first); // the archive of a later fold
    std::filesystem::resize_file(archive, std::filesystem::file_size(archive) - 1);
    expect_nothing_to_take_back(first);
    std::filesystem::remove(archive);
    expect_nothing_to_take_back(first);
}

TEST_F(ArchivedInAFolder, SlotsOfOneNameInTwoFoldersHaveTheirOwn) {
    const std::filesystem::path other = archive_folder_ / "other";
    std::filesystem::create_directory(other);
    feed_all(400, 300);
    fold();
    ASSERT_GT(program_->save((other / name_).c_str(), 0, {tokens_.data(), 400}), 0u);
    restart();
    restore(slot_);
    EXPECT_EQ(program_->pos_min(0), 0);
    restart();
    std::vector<llama_token> words(400);
    size_t count = 0;
    ASSERT_GT(program_->load((other / name_).c_str(), 0, words, count), 0u);
    EXPECT_EQ(program_->pos_min(0), 0);
    std::filesystem::rename(other / name_,
                            slot_); // broken twin: the other's slot file, and this one's archive
    restart();
    ASSERT_GT(program_->load(slot_.c_str(), 0, words, count), 0u);
    EXPECT_EQ(total("archive_bytes"), 0);
}

TEST_F(ArchivedInAFolder, ASlotThatIsNotFoldedHasNone) {
    ASSERT_TRUE(std::filesystem::exists(file()));
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_EQ(feed(0, 64), 0);
    ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 64}), 0u);
    EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(ArchivedInAFolder, AFileThatIsNoArchiveIsNotRemoved) {
    std::ofstream(file(), std::ios::trunc) << std::string(100, 'x'); // somebody's own
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_EQ(feed(0, 64), 0);
    ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 64}), 0u);
    EXPECT_EQ(std::filesystem::file_size(file()), 100u);
}

TEST_F(ArchivedInAFolder, WhatTheArchiveHasNoRoomForIsNotTakenAndStaysWhenTheSlotIsSavedAgain) {
    for (const size_t room : {size_t{0}, static_cast<size_t>(std::filesystem::file_size(file())) - 1}) {
        restart(room);
        restore(slot_);
        EXPECT_EQ(total("archive_bytes"), 0);
        ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 300}), 0u);
    }
    ASSERT_TRUE(std::filesystem::exists(file()));
    restart(2 * std::filesystem::file_size(file()));
    restore(slot_);
    EXPECT_GT(total("archive_bytes"), 0);
    restart(0);
    restore(slot_);
    fold(2); // another fold, of which there is no archive
    ASSERT_GT(program_->save(slot_.c_str(), 0, {tokens_.data(), 300}), 0u);
    EXPECT_FALSE(std::filesystem::exists(file()));
}

} // namespace
} // namespace kvfold::preload
