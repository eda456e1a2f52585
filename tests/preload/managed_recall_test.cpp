// What a prompt asks for stands beside the folded cells from its last token on, and never in a fold.
#include "engine/ask.h"
#include "engine/recall.h"
#include "preload/archived.h"
#include "state/folded_region.h"

namespace kvfold::preload {
namespace {

constexpr size_t kRecalled = 10;
constexpr llama_pos kText = 300;

class Recalled : public Archived {
  protected:
    void SetUp() override {
        Archived::SetUp();
        if (HasFatalFailure()) return;
        manage({}, /*unified=*/true, kPlenty, kRecalled);
    }

    size_t total_cells() { return managed_->state()["used_cells"].at(0); }
    int recalls() { return total("recalls").get<int>(); }
    std::vector<float> logits() {
        return managed_->undisturbed<std::vector<float>>([&] { return last_logits(ctx_.get()); });
    }
    // Of the prompt behind the text, with so many cells recalled, when the text was dropped.
    std::vector<float> logits_with(size_t recalled) {
        manage({}, true, kPlenty, recalled);
        feed_all(kText);
        fold(8, 0, &methods::keep_last);
        EXPECT_EQ(feed(kText, kText + 2), 0);
        return logits();
    }
};

TEST_F(Recalled, APromptBehindAFoldHasMoreCellsAndAnotherSwapsThem) {
    feed_all(kText);
    EXPECT_EQ(recalls(), 0); // nothing is folded
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    EXPECT_EQ(recalls(), 1);
    EXPECT_EQ(real_cells(), folded + kRecalled + 20);
    EXPECT_EQ(sequence()["cells"], folded + kRecalled + 20);
    ASSERT_EQ(feed(kText + 20, kText + 40), 0);
    EXPECT_EQ(recalls(), 2);
    EXPECT_EQ(real_cells(), folded + kRecalled + 40);
    const auto speed_of_answers = [&] {
        return managed_->state()["folds"].back()["decode_after_tok_s"].get<double>();
    };
    EXPECT_EQ(speed_of_answers(), 0); // a prompt's last token is read by itself and is no answer
    ASSERT_EQ(feed(kText + 40, kText + 41), 0);
    EXPECT_GT(speed_of_answers(), 0);
}

TEST_F(Recalled, AnAnswerAsksAgainAfterSomeOfItsTokens) {
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    const KvSection of_prompt = cells();
    llama_pos pos = kText + 20;
    std::vector<llama_pos> asked; // tokens of the answer
    for (; pos < kText + 28; ++pos) {
        const auto before = recalls();
        ASSERT_EQ(feed(pos, pos + 1), 0);
        if (recalls() > before) asked.push_back(pos - kText - 20 + 1);
    }
    EXPECT_EQ(asked, (std::vector<llama_pos>{1, 2, 4, 8}));
    EXPECT_EQ(real_cells(), folded + kRecalled + 28);
    EXPECT_EQ(program_->end(0), kText + 28);
    const KvSection of_answer = cells(); // the fold as it was, and other recalled cells
    const auto keys_at = [&](const KvSection& section, llama_pos place) {
        std::vector<uint32_t> there;
        for (uint32_t cell = 0; cell < section.cells.size(); ++cell)
            if (section.cells[cell].pos == place) there.push_back(cell);
        return take_cells(section, there).keys.front().bytes;
    };
    const llama_pos last = sorted_positions(of_prompt)[kRecalled]; // of the fold
    EXPECT_EQ(keys_at(of_prompt, last), keys_at(of_answer, last));
    EXPECT_NE(keys_at(of_prompt, last - 1), keys_at(of_answer, last - 1));
    // A state that is saved amid the answer is without them, and the next token asks anew.
    ASSERT_FALSE(program_->saved_state(0).empty());
    EXPECT_EQ(real_cells(), folded + 28);
    ASSERT_EQ(feed(pos, pos + 1), 0);
    EXPECT_EQ(recalls(), 6);
    EXPECT_EQ(real_cells(), folded + kRecalled + 29);
}

// But for the one token that asked, which was read on the fold alone.
TEST_F(Recalled, EverythingThatWasDroppedGivesTheFullLogits) {
    manage({}, true, kPlenty);
    feed_all(kText);
    ASSERT_EQ(feed(kText, kText + 2), 0);
    const std::vector<float> full = logits();
    const double kl = testing::kl_divergence(full, logits_with(kText));
    EXPECT_LT(kl, 1e-3); // the order of the cells is another
    EXPECT_GT(testing::kl_divergence(full, logits_with(0)), 10 * kl);
}

// Asked for once more it goes on with its last token alone, and what stands beside the fold is another
// answer's.
TEST_F(Recalled, APromptThatGoesOnWithItsLastTokenAsksAgain) {
    constexpr llama_pos kLast = kText + 16;
    const auto logits_of_last = [&](size_t recalled, bool is_restored) {
        manage({}, true, kPlenty, recalled);
        feed_all(kText);
        if (recalled < kCells) fold(8, 0, &methods::keep_last);
        EXPECT_EQ(feed(kText, kLast + 1), 0);
        if (is_restored) {
            const std::vector<uint8_t> saved = program_->saved_state(0);
            EXPECT_EQ(program_->restore_state(saved, 0), saved.size());
        }
        EXPECT_TRUE(program_->remove(0, kLast, -1));
        const int before = recalls();
        EXPECT_EQ(feed(kLast, kLast + 1), 0);
        EXPECT_EQ(recalls() - before, recalled == 0 || recalled == kCells ? 0 : 1);
        return logits();
    };
    const std::vector<float> full = logits_of_last(kCells, false); // nothing is folded
    const double nothing = testing::kl_divergence(full, logits_of_last(0, false));
    for (const bool is_restored : {false, true})
        EXPECT_LT(testing::kl_divergence(full, logits_of_last(kText, is_restored)), nothing / 4)
            << is_restored;
}

// Both are parted where they recall, and the program finds the outputs of its whole batch.
TEST_F(Recalled, PromptsOfOneBatchRecallEachForItself) {
    const auto prompts_after_folds = [&](auto read) {
        manage({}, true, kPlenty, kRecalled);
        for (const llama_seq_id seq_id : {0, 1}) {
            for (llama_pos pos = 0; pos < 120; pos += 60)
                EXPECT_EQ(feed(pos, pos + 60, seq_id), 0);
            fold(8, seq_id);
        }
        read();
        EXPECT_EQ(recalls(), 2);
    };
    const auto add = [&](Batch& batch, llama_seq_id seq_id) {
        for (llama_pos pos = 120; pos < 140; ++pos)
            batch.add(tokens_[static_cast<size_t>(pos + 40 * seq_id)], pos, {seq_id}, pos == 139);
    };
    std::vector<std::vector<float>> apart;
    prompts_after_folds([&] {
        for (const llama_seq_id seq_id : {0, 1}) {
            Batch batch(20);
            add(batch, seq_id);
            EXPECT_EQ(feed(batch), 0);
            apart.push_back(logits());
        }
    });
    prompts_after_folds([&] {
        Batch batch(40);
        add(batch, 0);
        add(batch, 1);
        ASSERT_EQ(feed(batch), 0);
        const float* const first = kept_logits(19);
        ASSERT_NE(first, nullptr);
        EXPECT_EQ(std::vector<float>(first, first + apart[0].size()), apart[0]);
        EXPECT_EQ(kept_logits(39), nullptr); // llama.cpp has it
        EXPECT_EQ(logits(), apart[1]);
        EXPECT_NE(apart[0], apart[1]);
    });
}

// Longer than what is heard of it, and read in a batch with a token that another sequence says.
TEST_F(Recalled, ALongPromptAsksWithItsNewestTokens) {
    for (const llama_seq_id seq_id : {0, 1})
        ASSERT_EQ(feed(0, 60, seq_id), 0);
    fold();
    const size_t folded = real_cells(), others = real_cells(1);
    const auto length = static_cast<llama_pos>(kHeardOfPrompt) + 40;
    Batch batch(length + 1);
    batch.add(tokens_[7], 60, {1}, true);
    for (llama_pos pos = 60; pos < 60 + length; ++pos)
        batch.add(tokens_[static_cast<size_t>(pos)], pos, {0}, pos + 1 == 60 + length);
    ASSERT_EQ(feed(batch), 0);
    EXPECT_EQ(recalls(), 1);
    EXPECT_EQ(real_cells(), folded + kRecalled + static_cast<size_t>(length));
    EXPECT_EQ(real_cells(1), others + 1);
    EXPECT_NE(kept_logits(0), nullptr);
    EXPECT_EQ(index_in_last(length), 0);
}

TEST_F(Recalled, APromptOfOneTokenRecallsBehindItself) {
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 1), 0); // nothing tells it from the first token of an answer
    EXPECT_EQ(recalls(), 1);
    EXPECT_EQ(real_cells(), folded + kRecalled + 1);
}

// A key of the first layer tells which token it is of, and where it stood.
TEST_F(Recalled, CellsAreThoseOfItsOwnSequence) {
    for (const llama_seq_id seq_id : {0, 1}) { // no token stands at the same place in both
        Batch batch(100);
        for (llama_pos pos = 0; pos < 100; ++pos)
            batch.add(3 + pos + 150 * seq_id, pos, {seq_id}, pos == 99);
        ASSERT_EQ(feed(batch), 0);
    }
    const KvSection own = cells(1), other = cells(0);
    for (const llama_seq_id seq_id : {0, 1})
        fold(4, seq_id, &methods::keep_last); // what it keeps it keeps as it is
    const size_t folded = real_cells(1);
    ASSERT_EQ(feed(100, 120, 1), 0);
    ASSERT_EQ(real_cells(1), folded + kRecalled + 20);
    const auto heads = static_cast<size_t>(llama_model_n_head_kv(model_.get()));
    const auto key_of = [&](const KvSection& section, size_t cell) {
        const CacheTensor& keys = section.keys.front();
        const size_t row = keys.row_bytes(), head = row / heads; // the first one's
        const auto begin = keys.bytes.begin() + static_cast<std::ptrdiff_t>(cell * row);
        return std::vector<uint8_t>(begin, begin + static_cast<std::ptrdiff_t>(head));
    };
    const auto has = [&](const KvSection& section, const std::vector<uint8_t>& key) {
        for (size_t cell = 0; cell < section.cells.size(); ++cell)
            if (key_of(section, cell) == key) return true;
        return false;
    };
    const KvSection now = cells(1);
    size_t seen = 0;
    for (size_t cell = 0; cell < now.cells.size(); ++cell) {
        if (now.cells[cell].pos >= 100) continue;
        ++seen;
        EXPECT_TRUE(has(own, key_of(now, cell))) << cell;
        EXPECT_FALSE(has(other, key_of(now, cell))) << cell;
    }
    EXPECT_EQ(seen, folded + kRecalled);
}

TEST_F(Recalled, CellsAreGoneBeforeTheNextFold) {
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    fold(2);
    EXPECT_EQ(real_cells(), (folded + 20 + 1) / 2);
    EXPECT_EQ(sequence()["cells"], real_cells());
}

TEST_F(Recalled, ACutInsideTheFoldGivesTheOriginalsBack) {
    feed_all(kText);
    const KvSection before = cells();
    fold();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    ASSERT_TRUE(program_->remove(0, 200, -1));
    EXPECT_EQ(real_cells(), 200u);
    const KvSection after = cells();
    std::vector<uint32_t> first = cells_by_position(before);
    first.resize(200);
    EXPECT_EQ(take_cells(after, cells_by_position(after)).keys.front().bytes,
              take_cells(before, first).keys.front().bytes);
}

TEST_F(Recalled, WithoutAnArchiveOrRoomNothingIsRecalled) {
    manage({}, true, 0, kRecalled);
    feed_all(kText);
    fold();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    EXPECT_EQ(recalls(), 0);
    manage({}, true, kPlenty, kCells); // more than there are cells
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    const auto left = static_cast<llama_pos>(kCells - folded);
    ASSERT_EQ(feed(kText, kText + left), 0); // the batch fills what there is
    EXPECT_EQ(recalls(), 0);
    EXPECT_EQ(real_cells(), size_t{kCells});
}

// Wherever it stands: what a fold kept as it was is there already.
TEST_F(Recalled, NothingThatAFoldKeptStandsThereTwice) {
    manage({}, true, kPlenty, kCells); // more than are archived
    feed_all(kText);
    fold(4, 0, &methods::keep_random);
    ASSERT_EQ(feed(kText, kText + 20), 0);
    EXPECT_EQ(recalls(), 1);
    EXPECT_EQ(real_cells(), static_cast<size_t>(kText) + 20);
}

TEST_F(Recalled, CopiesShareTheFoldAndRecallEachForItself) {
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    program_->copy(0, 1, -1, -1);
    EXPECT_EQ(total_cells(), folded + kRecalled + 20);
    ASSERT_EQ(feed(kText + 20, kText + 40), 0);
    EXPECT_EQ(recalls(), 2);
    EXPECT_EQ(real_cells(0), folded + kRecalled + 40);
    EXPECT_EQ(real_cells(1), folded + kRecalled + 20);
    EXPECT_EQ(total_cells(), folded + 2 * kRecalled + 40);
    fold(2); // both hold what was folded once
    EXPECT_EQ(real_cells(0) + real_cells(1) - total_cells(), real_cells(1));
}

TEST_F(Recalled, AnUnfoldThatIsRefusedLeavesThem) {
    feed_all(kText);
    fold();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    for (llama_pos pos = 0; pos < 240; pos += 60)
        ASSERT_EQ(feed(pos, pos + 60, 1), 0);
    const size_t before = real_cells();
    EXPECT_EQ(managed_->unfold(0).error().code, ErrorCode::busy);
    EXPECT_EQ(real_cells(), before);
    EXPECT_EQ(sequence()["recalled_cells"], kRecalled);
    ASSERT_TRUE(program_->remove(1, -1, -1));
    EXPECT_EQ(managed_->unfold(0).value(), static_cast<size_t>(kText) + 20);
    EXPECT_EQ(real_cells(), static_cast<size_t>(kText) + 20);
    EXPECT_EQ(sequence()["recalled_cells"], 0);
}

TEST_F(Recalled, SavedStatesAreWithoutThem) {
    feed_all(kText);
    fold();
    const size_t folded = real_cells();
    ASSERT_EQ(feed(kText, kText + 20), 0);
    const std::vector<uint8_t> saved = program_->saved_state(0);
    ASSERT_EQ(program_->restore_state(saved, 0), saved.size());
    EXPECT_EQ(real_cells(), folded + 20);
    ASSERT_EQ(feed(kText + 20, kText + 40), 0);
    EXPECT_EQ(recalls(), 2);
    EXPECT_EQ(real_cells(), folded + kRecalled + 40);
}

} // namespace
} // namespace kvfold::preload
