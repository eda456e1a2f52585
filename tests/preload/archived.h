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

} // namespace kvfold::preload
