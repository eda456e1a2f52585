#include "reference/cache_types.h"
#include "state/cache_tensor.h"
#include "state/synthetic_state.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>
#include <random>

namespace kvfold {
namespace {

Matrix random_rows(Index rows, Index cols, float scale = 1.0f, uint32_t seed = 5) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    return Matrix::NullaryExpr(rows, cols, [&] { return normal(random); });
}

CacheTensor tensor_of(const Matrix& rows, ggml_type type, bool transposed = false) {
    auto tensor = from_float(rows, type, transposed);
    EXPECT_TRUE(tensor) << tensor.error().message;
    return *tensor;
}

uint16_t u16_at(const std::vector<uint8_t>& bytes, size_t index) {
    return static_cast<uint16_t>(bytes[2 * index] | bytes[2 * index + 1] << 8);
}

// The largest error of one element, by the definition of the type. amax, min and max are those of its block.
// Scale and offset are kept as f16: 2^-11 of the largest product and of the offset come on top.
double error_bound(ggml_type type, double amax, double min, double max) {
    const double f16 = std::ldexp(1.0, -11);
    const double range = max - min;
    switch (type) {
    case GGML_TYPE_F32:
        return 0;
    case GGML_TYPE_F16:
        return amax * f16 + std::ldexp(1.0, -25);
    case GGML_TYPE_BF16:
        return amax * std::ldexp(1.0, -8);
    case GGML_TYPE_Q8_0:
        return amax / 127 * 0.5 + amax * f16;
    case GGML_TYPE_Q4_0:
        return amax / 8 + amax * f16; // one side has 7 steps only: a whole step at its end
    case GGML_TYPE_Q5_0:
        return amax / 16 + amax * f16;
    case GGML_TYPE_Q4_1:
        return range / 15 * 0.5 + (range + amax) * f16;
    case GGML_TYPE_Q5_1:
        return range / 31 * 0.5 + (range + amax) * f16;
    // A search over scales for the least square error weighted by the squared values; the widest half gap of
    // the table is 12/127, its short end misses 14/127; the search may pay more at small values.
    case GGML_TYPE_IQ4_NL:
        return amax * 0.2;
    default:
        return -1;
    }
}

TEST(CacheTensor, EveryTypeKeepsValuesWithinItsBlockScale) {
    for (const ggml_type type : testing::kCacheTypes) {
        for (const float scale : {1e-2f, 1.0f, 50.0f}) {
            SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << " scale " << scale);
            const Matrix rows = random_rows(17, 96, scale);
            const CacheTensor tensor = tensor_of(rows, type);
            EXPECT_EQ(tensor.cell_count(), 17u);
            EXPECT_EQ(tensor.row_bytes(), ggml_row_size(type, 96));
            const Matrix back = to_float(tensor);
            ASSERT_EQ(back.rows(), 17);
            ASSERT_EQ(back.cols(), 96);
            for (Index row = 0; row < rows.rows(); ++row)
                for (Index col = 0; col < rows.cols(); ++col) {
                    const auto block = rows.row(row).segment(col / 32 * 32, 32);
                    const double bound =
                        error_bound(type, block.cwiseAbs().maxCoeff(), block.minCoeff(), block.maxCoeff());
                    ASSERT_LE(std::abs(double{back(row, col)} - double{rows(row, col)}), bound * 1.0001)
                        << row << "," << col;
                }
        }
    }
}

TEST(CacheTensor, HalfPrecisionAgreesWithTheNaiveTwin) {
    // scale 1e-6: numbers below the normal range of f16
    for (const float scale : {1e-6f, 1.0f, 1000.0f}) {
        const Matrix rows = random_rows(8, 64, scale);
        const CacheTensor tensor = tensor_of(rows, GGML_TYPE_F16);
        const Matrix back = to_float(tensor);
        for (Index i = 0; i < rows.size(); ++i) {
            ASSERT_EQ(back.data()[i], reference::f16_value(u16_at(tensor.bytes, static_cast<size_t>(i))));
            ASSERT_EQ(back.data()[i], reference::round_f16(rows.data()[i]));
        }
    }
}

TEST(CacheTensor, BrainFloatAgreesWithTheNaiveTwin) {
    const Matrix rows = random_rows(8, 64);
    const CacheTensor tensor = tensor_of(rows, GGML_TYPE_BF16);
    const Matrix back = to_float(tensor);
    for (Index i = 0; i < rows.size(); ++i) {
        ASSERT_EQ(back.data()[i], reference::bf16_value(u16_at(tensor.bytes, static_cast<size_t>(i))));
        ASSERT_EQ(back.data()[i], reference::round_bf16(rows.data()[i]));
    }
}

TEST(CacheTensor, EightBitBlocksAgreeWithTheNaiveTwin) {
    const CacheTensor tensor = tensor_of(random_rows(8, 64), GGML_TYPE_Q8_0);
    const Matrix back = to_float(tensor);
    std::vector<double> expected = reference::q8_0_values(tensor.bytes);
    ASSERT_EQ(expected.size(), static_cast<size_t>(back.size()));
    for (size_t i = 0; i < expected.size(); ++i) // an 11-bit scale times 7 bits is exact in f32
        ASSERT_EQ(back.data()[i], expected[i]);
}

TEST(CacheTensor, TwinNoticesAWrongScale) { // broken twin of the test above
    CacheTensor tensor = tensor_of(random_rows(1, 32), GGML_TYPE_Q8_0);
    const std::vector<double> before = reference::q8_0_values(tensor.bytes);
    tensor.bytes[0] ^= 1;
    EXPECT_NE(to_float(tensor)(0, 0), before[0]);
}

TEST(CacheTensor, TransposedHoldsTheSameNumbersColumnByColumn) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
        const Matrix rows = random_rows(5, 8);
        const CacheTensor plain = tensor_of(rows, type);
        const CacheTensor turned = tensor_of(rows, type, true);
        EXPECT_EQ(turned.cell_count(), 5u);
        EXPECT_EQ(to_float(plain), to_float(turned));
        const size_t element = ggml_type_size(type);
        for (size_t row = 0; row < 5; ++row)
            for (size_t col = 0; col < 8; ++col)
                ASSERT_EQ(std::memcmp(plain.bytes.data() + (row * 8 + col) * element,
                                      turned.bytes.data() + (col * 5 + row) * element, element),
                          0);
    }
}

TEST(CacheTensor, ViewWithAStrideIsWrittenAsItLooks) {
    const Matrix wide = random_rows(6, 96);
    const Matrix head = wide.middleCols(32, 32);
    const auto from_view = from_float(wide.middleCols(32, 32), GGML_TYPE_Q8_0, false);
    ASSERT_TRUE(from_view);
    EXPECT_EQ(from_view->bytes, tensor_of(head, GGML_TYPE_Q8_0).bytes);
}

TEST(CacheTensor, TakenCellsAreThoseNamedInTheirOrder) {
    const std::vector<uint32_t> cells = {4, 0, 4, 2};
    for (const ggml_type type : testing::kCacheTypes)
        for (const bool transposed : {false, true}) {
            if (transposed && ggml_blck_size(type) != 1) continue;
            const CacheTensor tensor = tensor_of(random_rows(5, 64), type, transposed);
            const CacheTensor taken = take_cells(tensor, cells);
            EXPECT_EQ(taken.cell_count(), 4u);
            const Matrix all = to_float(tensor);
            const Matrix some = to_float(taken);
            for (size_t i = 0; i < cells.size(); ++i)
                EXPECT_EQ(some.row(static_cast<Index>(i)), all.row(cells[i])) << ggml_type_name(type);
        }
}

TEST(CacheTensor, TakingAllCellsChangesNoByte) {
    std::vector<uint32_t> all(7);
    std::iota(all.begin(), all.end(), 0u);
    for (const bool transposed : {false, true}) {
        const CacheTensor tensor = tensor_of(random_rows(7, 32), GGML_TYPE_F16, transposed);
        EXPECT_EQ(take_cells(tensor, all).bytes, tensor.bytes);
        EXPECT_EQ(take_cells(tensor, {}).bytes.size(), 0u);
    }
}

TEST(CacheTensor, AppendedCellsStandBehind) {
    const std::vector<uint32_t> first = {0, 1, 2};
    const std::vector<uint32_t> second = {3, 4};
    for (const bool transposed : {false, true}) {
        const CacheTensor whole = tensor_of(random_rows(5, 32), GGML_TYPE_F16, transposed);
        CacheTensor joined = take_cells(whole, first);
        append_cells(joined, take_cells(whole, second));
        EXPECT_EQ(joined.bytes, whole.bytes);
        append_cells(joined, take_cells(whole, {}));
        EXPECT_EQ(joined.bytes, whole.bytes);
        CacheTensor from_nothing = take_cells(whole, {});
        append_cells(from_nothing, whole);
        EXPECT_EQ(from_nothing.bytes, whole.bytes);
    }
}

TEST(CacheTensor, RoundedRowsAreWhatTheCacheWillHold) {
    for (const ggml_type type : testing::kCacheTypes) {
        Matrix rows = random_rows(4, 64);
        const Matrix expected = to_float(tensor_of(rows, type));
        round_rows(rows, type);
        EXPECT_EQ(rows, expected) << ggml_type_name(type);
    }
}

TEST(CacheTensor, RoundingAHeadLeavesItsNeighboursAlone) {
    Matrix rows = random_rows(4, 96);
    const Matrix before = rows;
    round_rows(rows.middleCols(32, 32), GGML_TYPE_Q4_0);
    EXPECT_EQ(rows.leftCols(32), before.leftCols(32));
    EXPECT_EQ(rows.rightCols(32), before.rightCols(32));
    EXPECT_NE(rows.middleCols(32, 32), before.middleCols(32, 32));
}

TEST(CacheTensor, ValuesThatDoNotFitAreNumericErrors) {
    for (const ggml_type type : testing::kCacheTypes) {
        for (const float bad :
             {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
            if (bad == 3e38f && (type == GGML_TYPE_F32 || type == GGML_TYPE_BF16)) continue; // fits
            Matrix rows = random_rows(3, 64);
            rows(1, 40) = bad;
            const auto tensor = from_float(rows, type, false);
            ASSERT_FALSE(tensor) << ggml_type_name(type) << " " << bad;
            EXPECT_EQ(tensor.error().code, ErrorCode::numeric);
        }
    }
}

TEST(CacheTensor, HalfPrecisionEndsAt65504) {
    Matrix rows = Matrix::Constant(1, 1, 65504.0f);
    EXPECT_TRUE(from_float(rows, GGML_TYPE_F16, false));
    EXPECT_TRUE(from_float(rows, GGML_TYPE_F16, true));
    rows(0, 0) = 65520.0f; // rounds up to infinity
    EXPECT_FALSE(from_float(rows, GGML_TYPE_F16, false));
    EXPECT_FALSE(from_float(rows, GGML_TYPE_F16, true));
}

TEST(CacheTensor, WidthThatDoesNotFillBlocksIsRefused) {
    EXPECT_EQ(from_float(random_rows(2, 48), GGML_TYPE_Q8_0, false).error().code,
              ErrorCode::invalid_argument);
    EXPECT_EQ(from_float(random_rows(2, 32), GGML_TYPE_Q8_0, true).error().code, ErrorCode::invalid_argument);
    EXPECT_EQ(from_float(random_rows(2, 256), GGML_TYPE_Q6_K, false).error().code,
              ErrorCode::invalid_argument);
}

TEST(CacheTensor, HeadsOfDifferentCellsAreTakenByteForByte) {
    const std::vector<std::vector<uint32_t>> cells = {{4, 0, 4}, {1, 2, 3}};
    for (const bool transposed : {false, true}) {
        for (const ggml_type type : testing::kCacheTypes) {
            if (transposed && ggml_blck_size(type) > 1) continue; // llama.cpp stores none
            SCOPED_TRACE(::testing::Message() << ggml_type_name(type) << (transposed ? " transposed" : ""));
            const CacheTensor tensor = tensor_of(random_rows(5, 64), type, transposed);
            const CacheTensor taken = take_heads(tensor, cells);
            ASSERT_EQ(taken.cell_count(), 3u);
            for (size_t head = 0; head < 2; ++head) {
                const CacheTensor whole = take_cells(tensor, cells[head]);
                const auto columns = [&](const CacheTensor& of) {
                    return Matrix(to_float(of).middleCols(static_cast<Index>(head) * 32, 32));
                };
                EXPECT_EQ(columns(taken), columns(whole));
                const std::vector<std::vector<uint32_t>> same = {cells[head], cells[head]};
                EXPECT_EQ(take_heads(tensor, same).bytes, whole.bytes);
                EXPECT_NE(take_heads(tensor, cells).bytes, whole.bytes);
            }
        }
    }
}

} // namespace
} // namespace kvfold
