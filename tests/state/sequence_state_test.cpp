#include "state/sequence_state.h"
#include "state/synthetic_state.h"

#include <gtest/gtest.h>

namespace kvfold {
namespace {

using testing::RecurrentSpec;
using testing::SectionSpec;
using testing::SyntheticState;

void expect_round_trip(const SyntheticState& state) {
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(encode_sequence(*decoded), state.bytes);
}

TEST(SequenceState, EveryKeyAndValueTypeComesBackByteForByte) {
    for (const ggml_type key_type : testing::kCacheTypes)
        for (const ggml_type value_type : testing::kCacheTypes) {
            SCOPED_TRACE(::testing::Message()
                         << ggml_type_name(key_type) << " " << ggml_type_name(value_type));
            expect_round_trip(SyntheticState().section({.key_type = key_type, .value_type = value_type}));
        }
}

TEST(SequenceState, TransposedValuesComeBackByteForByte) {
    for (const ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16}) {
        SCOPED_TRACE(ggml_type_name(type));
        expect_round_trip(SyntheticState().section({.transposed = true, .value_type = type}));
    }
}

TEST(SequenceState, EveryCombinationOfSectionsStreamsAndExtraDataComesBackByteForByte) {
    for (int mask = 0; mask < 64; ++mask) {
        SCOPED_TRACE(mask);
        const bool extra = mask & 1;
        const bool transposed = mask & 2;
        const bool rotation = mask & 32;
        SyntheticState state;
        state.section({.streams = mask & 4 ? 3u : 1u,
                       .stream = mask & 4 ? 1u : 0u,
                       .extra = extra,
                       .transposed = transposed,
                       .rotation = rotation});
        if (mask & 8)
            state.section({.cells = 1, .extra = extra, .transposed = transposed, .rotation = rotation});
        if (mask & 16) state.recurrent({});
        expect_round_trip(state);
    }
}

TEST(SequenceState, SectionWithoutCellsHasNoLayers) {
    for (const uint32_t streams : {1u, 2u, 7u}) {
        SyntheticState state;
        state.section({.streams = streams, .cells = 0}).section({.streams = streams, .cells = 0});
        expect_round_trip(state);
        const auto decoded = decode_sequence(state.bytes);
        ASSERT_EQ(decoded->sections.size(), 2u);
        EXPECT_TRUE(decoded->sections[0].cells.empty());
        EXPECT_TRUE(decoded->sections[0].keys.empty());
    }
}

TEST(SequenceState, SectionWithCellsButNoLayersKeepsItsFlag) {
    expect_round_trip(SyntheticState().section({.layers = 0, .transposed = true}).section({}));
    expect_round_trip(SyntheticState().section({.layers = 0, .transposed = false}).section({}));
}

TEST(SequenceState, FieldsStandWhereTheFormatPagePutsThem) {
    const SectionSpec spec{
        .streams = 3, .stream = 2, .cells = 4, .transposed = true, .key_type = GGML_TYPE_Q8_0};
    SyntheticState state;
    state.section(spec);
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    ASSERT_EQ(decoded->sections.size(), 1u);
    const KvSection& section = decoded->sections[0];
    EXPECT_EQ(section.streams, 3u);
    EXPECT_EQ(section.stream, 2u);
    EXPECT_FALSE(section.has_extra);
    ASSERT_EQ(section.cells.size(), 4u);
    EXPECT_EQ(section.cells[3].pos, 19);
    EXPECT_EQ(section.cells[3].seq_id, 2);
    ASSERT_EQ(section.keys.size(), 2u);
    EXPECT_EQ(section.keys[1].type, GGML_TYPE_Q8_0);
    EXPECT_EQ(section.keys[1].width, 64u);
    EXPECT_FALSE(section.keys[1].transposed);
    EXPECT_EQ(section.keys[1].cell_count(), 4u);
    ASSERT_EQ(section.values.size(), 2u);
    EXPECT_TRUE(section.values[1].transposed);
    EXPECT_EQ(section.values[1].width, 64u);
    const size_t first = state.at.at("0.value1.width") + 4;
    EXPECT_TRUE(std::equal(section.values[1].bytes.begin(), section.values[1].bytes.end(),
                           state.bytes.begin() + first));
}

TEST(SequenceState, ExtraPositionDataIsFoundByParsing) {
    SyntheticState state;
    state.section({.extra = true});
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    const KvSection& section = decoded->sections[0];
    EXPECT_TRUE(section.has_extra);
    EXPECT_EQ(section.cells[1].pos, 13);
    const size_t first = state.at.at("0.cell1.ids") + 4;
    EXPECT_TRUE(std::equal(section.cells[1].extra.begin(), section.cells[1].extra.end(),
                           state.bytes.begin() + first));
}

TEST(SequenceState, ExtraPositionDataOfTextLooksLikeNothingElse) {
    // Text on an M-RoPE model: x = y = position, then the token. With few cells y is 0 or 1 and passes for
    // v_trans.
    for (const uint32_t cells : {1u, 2u}) {
        SyntheticState state;
        state.section({.cells = cells, .extra = true});
        for (uint32_t i = 0; i < cells; ++i) {
            const uint32_t extra[3] = {i, i, 1};
            std::memcpy(state.bytes.data() + state.at.at("0.cell" + std::to_string(i) + ".ids") + 4, extra,
                        12);
        }
        const auto decoded = decode_sequence(state.bytes);
        ASSERT_TRUE(decoded) << decoded.error().message;
        EXPECT_TRUE(decoded->sections[0].has_extra);
        EXPECT_EQ(encode_sequence(*decoded), state.bytes);
    }
}

TEST(SequenceState, RecurrentSectionIsPassedThrough) {
    SyntheticState state;
    state.section({}).recurrent({});
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->sections.size(), 1u);
    EXPECT_EQ(decoded->recurrent,
              std::vector<uint8_t>(state.bytes.begin() + state.section_ends[0], state.bytes.end()));
}

TEST(SequenceState, RecurrentCellAtPositionZeroIsNotTakenForAnEmptyCache) {
    SyntheticState state;
    state.section({}).recurrent({.first_pos = 0});
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->sections.size(), 1u);
    EXPECT_EQ(encode_sequence(*decoded), state.bytes);
}

TEST(SequenceState, EmptySequenceOfAHybridModelIsWhole) {
    SyntheticState state;
    state.section({.cells = 0}).recurrent({.cells = 0});
    const auto decoded = decode_sequence(state.bytes);
    ASSERT_TRUE(decoded) << decoded.error().message;
    EXPECT_EQ(decoded->sections.size(), 1u);
    EXPECT_FALSE(decoded->recurrent.empty());
    EXPECT_EQ(encode_sequence(*decoded), state.bytes);
}

TEST(SequenceState, RecurrentRowsMayBeEmpty) { // short convolutions keep no S state
    expect_round_trip(SyntheticState().section({}).recurrent({.s_floats = 0}));
}

// The broken twin of the tests above: they would notice any single byte that does not come back.
TEST(SequenceState, RoundTripCheckNoticesAnyFlippedByte) {
    for (const SyntheticState& state : testing::sample_states()) {
        std::vector<uint8_t> changed = state.bytes;
        for (size_t i = 0; i < changed.size(); ++i) {
            changed[i] ^= 0x10;
            const auto decoded = decode_sequence(changed);
            if (decoded) {
                ASSERT_NE(encode_sequence(*decoded), state.bytes) << "offset " << i;
            }
            changed[i] ^= 0x10;
        }
    }
}

} // namespace
} // namespace kvfold
