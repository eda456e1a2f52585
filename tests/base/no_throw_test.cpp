#include "base/no_throw.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace kvfold {
namespace {

TEST(WithoutThrowing, TurnsWhatIsThrownIntoAnErrorAndLetsResultsThrough) {
    const auto code_of = [](auto call) { return without_throwing(call).error().code; };
    EXPECT_EQ(code_of([]() -> Status { throw std::bad_alloc(); }), ErrorCode::memory);
    EXPECT_EQ(code_of([]() -> Status { throw std::runtime_error("no"); }), ErrorCode::internal);
    EXPECT_EQ(code_of([]() -> Status { throw 1; }), ErrorCode::internal);
    EXPECT_EQ(code_of([]() -> Status { return fail(ErrorCode::busy, "busy"); }), ErrorCode::busy);
    EXPECT_EQ(without_throwing([]() -> Result<int> { return 3; }).value(), 3);
}

TEST(KeptException, IsThrownBehindTheCodeThatItMustNotCross) {
    KeptException kept;
    EXPECT_TRUE(kept.keep([] { return true; }, false));
    EXPECT_NO_THROW(kept.rethrow());
    EXPECT_FALSE(kept.keep([]() -> bool { throw std::bad_alloc(); }, false));
    EXPECT_FALSE(kept.keep([]() -> bool { throw std::runtime_error("a later one"); }, false));
    EXPECT_THROW(kept.rethrow(), std::bad_alloc);
    EXPECT_NO_THROW(kept.rethrow());
}

} // namespace
} // namespace kvfold
