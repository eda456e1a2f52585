// States and slot files of a managed context: they bring their tokens and their folds back.
#include "preload/managed.h"

namespace kvfold::preload {
namespace {

TEST_F(Managed, ASavedStateBringsItsTokensBack) {
    feed_all(600);
    settle();
    const size_t cells = real_cells();
    std::vector<uint8_t> bytes = program_->saved_state(0);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    EXPECT_TRUE(managed_->state()["sequences"].empty());
    ASSERT_EQ(program_->restore_state(bytes, 1), bytes.size());
    EXPECT_EQ(sequence()["id"], 1);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(sequence()["cells"], cells);

    bytes.back() ^= 1; // not what was saved: its tokens are not known
    program_->restore_state(bytes, 1);
    EXPECT_EQ(sequence()["tokens_known"], false);
    EXPECT_EQ(sequence()["cells"], cells);
}

TEST_F(Managed, ASlotFileBringsItsTokensAndItsFoldBack) {
    feed_all(600);
    settle();
    const Json before = sequence();
    const auto path =
        std::filesystem::temp_directory_path() / kvfold::format("kvfold-preload-{}.slot", ::getpid());
    ASSERT_GT(program_->save((path).c_str(), 0, std::span(tokens_).first(600)), 0u);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    std::vector<llama_token> tokens(600);
    size_t count = 0;
    ASSERT_GT(program_->load(path.c_str(), 0, tokens, count), 0u);
    std::filesystem::remove(path);
    EXPECT_EQ(sequence()["tokens_known"], true);
    EXPECT_EQ(sequence()["cells"], before["cells"]);
    EXPECT_GE(sequence()["folded_tokens"].get<int>() + 64, before["folded_tokens"].get<int>());
}

TEST_F(Managed, AStateTellsOfAFoldBehindASharedBeginning) {
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 60), 0);
    program_->copy(0, 1, -1, -1);
    ASSERT_EQ(feed(60, 300, 1), 0);
    const auto job = managed_->compact(1, *find_method("select"), 4);
    ASSERT_TRUE(job) << job.error().message;
    settle();
    ASSERT_TRUE(managed_->job(*job)->status) << managed_->job(*job)->status.error().message;
    ASSERT_EQ(llama_memory_seq_pos_min(llama_get_memory(ctx_.get()), 1), 0);
    const llama_pos smallest = program_->pos_min(1);
    ASSERT_GT(smallest, 100);
    const size_t cells = real_cells(1);

    const std::string file = ::testing::TempDir() + "shared-beginning.slot";
    ASSERT_GT(program_->save(file.c_str(), 1, {tokens_.data(), 300}), 0u);
    const std::vector<uint8_t> bytes = program_->saved_state(1);
    std::vector<llama_token> words(300);
    size_t count = 0;
    for (const bool from_file : {false, true}) {
        ASSERT_TRUE(program_->remove(1, -1, -1));
        const size_t read =
            from_file ? program_->load(file.c_str(), 1, words, count) : program_->restore_state(bytes, 1);
        ASSERT_GT(read, 0u);
        EXPECT_EQ(real_cells(1), cells);
        EXPECT_EQ(program_->pos_min(1), smallest);
        EXPECT_EQ(llama_memory_seq_pos_min(llama_get_memory(ctx_.get()), 1), smallest); // so a server alone
    }
    std::filesystem::remove(file);
}

TEST_F(Managed, ASessionTellsOfAFoldBehindASharedBeginning) {
    ASSERT_TRUE(managed_->set_policy({}));
    ASSERT_EQ(feed(0, 60), 0);
    program_->copy(0, 1, -1, -1);
    ASSERT_EQ(feed(60, 300, 1), 0);
    const std::vector<uint8_t> plain = program_->saved_session();
    ASSERT_TRUE(managed_->compact(1, *find_method("select"), 4));
    settle();
    const llama_pos smallest = program_->pos_min(1);
    ASSERT_GT(smallest, 100);
    const std::vector<uint8_t> folded = program_->saved_session();

    const size_t cells = sequence(1)["folded_cells"];
    managed_->clear([&] { llama_memory_clear(llama_get_memory(ctx_.get()), true); });
    ASSERT_EQ(program_->restore_session(folded), folded.size());
    EXPECT_EQ(program_->pos_min(1), smallest);
    EXPECT_EQ(sequence(1)["folded_cells"], cells);
    EXPECT_FALSE(program_->remove(1, smallest, -1)); // tokens are not known
    EXPECT_TRUE(program_->remove(1, smallest + 1, -1));
    EXPECT_EQ(program_->pos_min(0), 0); // shares the beginning, and no fold
    // Broken twin: without a fold nothing is held to be one.
    ASSERT_EQ(program_->restore_session(plain), plain.size());
    EXPECT_EQ(program_->pos_min(1), 0);
    EXPECT_TRUE(program_->remove(1, smallest, -1));
}

TEST_F(Managed, AStateLargerThanTheRoomIsFoldedIn) {
    ASSERT_EQ(feed(0, 250), 0);
    const std::vector<uint8_t> bytes = program_->saved_state(0);
    ASSERT_TRUE(program_->remove(0, -1, -1));
    ASSERT_EQ(feed(0, 380, 1), 0);
    settle();
    ASSERT_TRUE(managed_->set_policy({}));
    EXPECT_EQ(program_->restore_state(bytes, 0), 0u); // broken twin: nobody folds, and llama.cpp has no room
    ASSERT_TRUE(managed_->set_policy(folding()));
    EXPECT_EQ(program_->restore_state(bytes, 0), bytes.size());
    EXPECT_EQ(sequence(0)["tokens"], 250);
    EXPECT_EQ(sequence(0)["cells"], real_cells(0));
    EXPECT_EQ(feed(250, 260), 0);
}

// What was folded to fit can be taken back like any other fold, as far as the archive has it.
TEST_F(Managed, AStateThatIsFoldedInKeepsWhatItWas) {
    manage(folding(), /*unified=*/true, size_t{1} << 30);
    const auto larger = testing::make_context(model_, {.n_ctx = 1024});
    ASSERT_TRUE(decode_tokens(larger.get(), std::span(tokens_).first(600), 0, Outputs::none));
    const std::vector<uint8_t> bytes = testing::raw_state(larger.get());
    const auto before = read_sequence(larger.get(), 0);
    ASSERT_TRUE(before);
    ASSERT_EQ(program_->restore_state(bytes, 0), bytes.size());
    ASSERT_LT(real_cells(0), kCells);
    ASSERT_TRUE(program_->remove(0, 200, -1));
    EXPECT_EQ(managed_->state()["totals"]["rereads"], 0);
    const auto after = program_->read(0);
    ASSERT_TRUE(after);
    std::vector<uint32_t> first(200);
    std::iota(first.begin(), first.end(), 0u);
    EXPECT_EQ(after->sections.front().keys.front().bytes,
              take_cells(before->sections.front().keys.front(), first).bytes);
}

TEST_F(Managed, WhatComesFromNowhereLeavesTheSequenceAsItWas) {
    manage(folding(), /*unified=*/true, size_t{1} << 30);
    ASSERT_EQ(feed(0, 100), 0);
    std::vector<llama_token> words(200);
    size_t count = 0;
    EXPECT_EQ(program_->load("/nowhere/a.slot", 0, words, count), 0u);
    EXPECT_EQ(sequence()["tokens"], 100);
    EXPECT_EQ(sequence()["tokens_known"], true);
}

TEST_F(Managed, AFailedRestoreLeavesTheSequenceAsItWas) {
    ASSERT_EQ(feed(0, 100), 0);
    const auto before = testing::raw_state(ctx_.get());
    std::vector<uint8_t> bytes = program_->saved_state(0);
    ASSERT_EQ(feed(100, 150), 0);
    const auto longer = testing::raw_state(ctx_.get());
    bytes.resize(bytes.size() / 2);
    EXPECT_EQ(program_->restore_state(bytes, 0), 0u);
    EXPECT_EQ(testing::raw_state(ctx_.get()), longer);
    EXPECT_EQ(sequence()["tokens"], 150);
    EXPECT_EQ(sequence()["tokens_known"], true);
    ASSERT_TRUE(program_->remove(0, 100, -1));
    EXPECT_EQ(testing::raw_state(ctx_.get()), before);
}

TEST_F(Managed, ATruncatedSlotFileIsRefusedBeforeAnythingChanges) {
    ASSERT_EQ(feed(0, 100), 0);
    const auto path =
        std::filesystem::temp_directory_path() / kvfold::format("kvfold-preload-{}-cut.slot", ::getpid());
    ASSERT_GT(program_->save((path).c_str(), 0, std::span(tokens_).first(100)), 0u);
    const auto before = testing::raw_state(ctx_.get());
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
    std::vector<llama_token> tokens(100);
    size_t count = 0;
    EXPECT_EQ(program_->load(path.c_str(), 0, tokens, count), 0u); // llama.cpp alone would abort
    std::filesystem::remove(path);
    EXPECT_EQ(testing::raw_state(ctx_.get()), before);
    EXPECT_EQ(sequence()["tokens"], 100);
}

TEST_F(Managed, SlotFilesHaveLongNamesAndStandBehindLinks) {
    ASSERT_EQ(feed(0, 50), 0);
    const auto folder =
        std::filesystem::temp_directory_path() / kvfold::format("kvfold-preload-{}", ::getpid());
    std::filesystem::create_directories(folder);
    const auto named = folder / std::string(255, 'n');
    EXPECT_GT(program_->save((named).c_str(), 0, std::span(tokens_).first(50)), 0u);
    std::filesystem::create_symlink(named, folder / "link");
    EXPECT_GT(program_->save((folder / "link").c_str(), 0, std::span(tokens_).first(50)), 0u);
    EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
    size_t files = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder))
        ++files;
    EXPECT_EQ(files, 2u);
    std::filesystem::remove_all(folder);
}

} // namespace
} // namespace kvfold::preload
