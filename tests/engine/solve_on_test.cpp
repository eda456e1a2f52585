// The same fold by the processor's solver and through ggml, on tiny models.
#include "engine/compact.h"
#include "support/tiny_model.h"

#include <atomic>

namespace kvfold {
namespace {

constexpr size_t kFewTokens = 160;

class SolveOnPlaces : public testing::TinySequence {
  protected:
    void SetUp() override { read(kFewTokens); }

    Result<CompactState> compacted(SolveOn where, const Method& method = testing::quick(methods::refine)) {
        CompactRequest request = testing::request_for(tokens_, 4, method);
        request.solve_on = where;
        return compact_state(model_.get(), before_, request);
    }
};

TEST_P(SolveOnPlaces, ADeviceMakesHeadsAsGood) {
    const auto here = compacted(SolveOn::processor), there = compacted(SolveOn::device);
    ASSERT_TRUE(here) << here.error().message;
    ASSERT_TRUE(there) << there.error().message;
    const SolvedOn& on = there->report.solved_on;
    EXPECT_GT(on.layers, 0u);
    EXPECT_EQ(on.on_devices, on.layers);
    EXPECT_EQ(to_text(on), "CPU");
    ASSERT_EQ(there->report.heads.size(), here->report.heads.size());
    for (size_t i = 0; i < here->report.heads.size(); ++i) {
        const HeadReport &mine = there->report.heads[i], &wanted = here->report.heads[i];
        EXPECT_LT(mine.output_error, 1.1f * wanted.output_error + 1e-3f);
        EXPECT_LT(mine.mass_error, 1.1f * wanted.mass_error + 1e-3f);
        EXPECT_EQ(mine.kept.size(), wanted.kept.size());
    }
    EXPECT_NE(encode_sequence(there->state),
              encode_sequence(here->state)); // it was no other name for the same
}

TEST_P(SolveOnPlaces, TheProcessorsOwnMemoryIsItsOwnByItself) {
    const auto by_itself = compacted(SolveOn::automatic), here = compacted(SolveOn::processor);
    ASSERT_TRUE(by_itself && here);
    EXPECT_EQ(encode_sequence(by_itself->state), encode_sequence(here->state));
    EXPECT_EQ(by_itself->report.solved_on.on_devices, 0u);
    EXPECT_EQ(by_itself->report.solved_on.layers, here->report.solved_on.layers);
    EXPECT_EQ(to_text(by_itself->report.solved_on), "the processor");
}

// Between graphs too, for a device solves many heads at once; and the processor does not go on in its place.
TEST_P(SolveOnPlaces, ADeviceStopsWhenItIsTold) {
    const Method method = testing::quick(methods::refine);
    for (const int threads : {1, 3}) {
        std::atomic<int> asked = 0;
        int allowed = 0;
        CompactRequest request = testing::request_for(tokens_, 4, method);
        request.solve_on = SolveOn::device;
        request.threads = threads;
        request.progress = [&](Stage stage, float) { return stage != Stage::solve || ++asked <= allowed; };
        for (allowed = 1; allowed < 30; allowed += 7) {
            asked = 0;
            const auto stopped = compact_state(model_.get(), before_, request);
            ASSERT_FALSE(stopped) << allowed;
            EXPECT_EQ(stopped.error().code, ErrorCode::cancelled) << stopped.error().message;
            EXPECT_LE(asked, allowed + threads); // each thread asks once more
        }
        allowed = 1 << 30;
        ASSERT_TRUE(compact_state(model_.get(), before_, request));
    }
}

INSTANTIATE_TEST_SUITE_P(Models, SolveOnPlaces, ::testing::Values("mha", "gemma3", "granite_hybrid"),
                         [](const auto& info) { return std::string(info.param); });

TEST(SolvedOn, SaysWhereAndWhyNot) {
    SolvedOn sum{4, 0, "", ""};
    EXPECT_EQ(to_text(sum), "the processor");
    add(sum, {16, 16, "CUDA0", ""});
    EXPECT_EQ(to_text(sum), "CUDA0 (16 layers) and the processor (4)");
    add(sum, {1, 0, "", "Vulkan0 does not compute ARGMAX"});
    EXPECT_EQ(to_text(sum), "CUDA0 (16 layers) and the processor (5): Vulkan0 does not compute ARGMAX");
    for (const std::string_view name : kSolveOnNames)
        EXPECT_EQ(kSolveOnNames[static_cast<size_t>(*solve_on_named(name))], name);
    EXPECT_EQ(solve_on_named("gpu").error().code, ErrorCode::invalid_argument);
}

// Three leases at once, and each of them again: on a processor nobody waits.
TEST(Lease, AProcessorHasOneForEachThatAsks) {
    const ggml_backend_dev_t device = device::solving_device(SolveOn::device, nullptr);
    const auto one = device::Lease::of(device), two = device::Lease::of(device);
    ASSERT_TRUE(one && two);
    EXPECT_NE(&**one, &**two);
    const device::Backend* given_back = nullptr;
    {
        const auto three = device::Lease::of(device);
        given_back = &**three;
    }
    EXPECT_EQ(&**device::Lease::of(device), given_back);
}

} // namespace
} // namespace kvfold
