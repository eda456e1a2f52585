// A managed context that keeps what its folds replace, and folds when it is told to.
#pragma once

#include "preload/managed.h"

namespace kvfold::preload {

inline constexpr size_t kPlenty = 1 << 30; // bytes

class Archived : public Managed {
  protected:
    void SetUp() override {
        Managed::SetUp();
        if (HasFatalFailure()) return;
        manage({}, /*unified=*/true, kPlenty);
    }

    void fold(double ratio = 4, llama_seq_id seq_id = 0, const Method* method = &methods::select) {
        const auto job = managed_->compact(seq_id, method, ratio);
        ASSERT_TRUE(job) << job.error().message;
        settle();
        ASSERT_TRUE(managed_->job(*job)->status) << managed_->job(*job)->status.error().message;
    }

    KvSection cells(llama_seq_id seq_id = 0) {
        auto state = program_->read(seq_id);
        EXPECT_TRUE(state) << state.error().message;
        return state ? std::move(state->sections.front()) : KvSection();
    }

    Json total(const char* name) { return managed_->state()["totals"][name]; }
};

inline std::vector<uint32_t> order_of(const KvSection& section, llama_pos end) {
    std::vector<uint32_t> cells;
    for (uint32_t i = 0; i < section.cells.size(); ++i)
        if (section.cells[i].pos < end) cells.push_back(i);
    std::ranges::stable_sort(cells, {}, [&](uint32_t cell) { return section.cells[cell].pos; });
    return cells;
}

// Of the cells before `end`, by position.
inline void expect_same(const KvSection& one, const KvSection& other, llama_pos end) {
    const auto ours = order_of(one, end), theirs = order_of(other, end);
    ASSERT_EQ(ours.size(), theirs.size());
    for (size_t i = 0; i < ours.size(); ++i)
        ASSERT_EQ(one.cells[ours[i]].pos, other.cells[theirs[i]].pos);
    for (size_t layer = 0; layer < one.keys.size(); ++layer) {
        EXPECT_EQ(take_cells(one.keys[layer], ours).bytes, take_cells(other.keys[layer], theirs).bytes);
        EXPECT_EQ(take_cells(one.values[layer], ours).bytes, take_cells(other.values[layer], theirs).bytes);
    }
}

} // namespace kvfold::preload
