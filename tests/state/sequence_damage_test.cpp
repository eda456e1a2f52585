// One test for each kind of damage to a sequence state.
#include "state/largest_allocation.h"
#include "state/sequence_state.h"
#include "state/synthetic_state.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace kvfold {
namespace {

using testing::SyntheticState;

// Decodes within the promised memory. One CacheTensor (40 bytes) stands for a record of at least 13 bytes.
Result<SequenceState> decode_bounded(const std::vector<uint8_t>& bytes) {
    testing::largest_allocation = 0;
    auto decoded = decode_sequence(bytes);
    EXPECT_LE(testing::largest_allocation, 4 * bytes.size() + 1024);
    return decoded;
}

// The error, which must be one line that names section, place and offset.
Error error_of(const std::vector<uint8_t>& bytes) {
    const auto decoded = decode_bounded(bytes);
    if (decoded) {
        ADD_FAILURE() << "damaged bytes were accepted";
        return {};
    }
    const std::string& message = decoded.error().message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(message.rfind("section ", 0), 0u) << message;
    EXPECT_NE(message.find(", offset "), std::string::npos) << message;
    EXPECT_NE(message.find("expected"), std::string::npos) << message;
    return decoded.error();
}

void expect_error(const std::vector<uint8_t>& bytes, ErrorCode code, const std::string& place,
                  size_t offset) {
    const Error error = error_of(bytes);
    EXPECT_EQ(error.code, code) << error.message;
    const std::string start = place + ", offset " + std::to_string(offset) + ": ";
    EXPECT_EQ(error.message.rfind(start, 0), 0u)
        << "'" << error.message << "' does not begin with '" << start << "'";
}

// expect_error at a named field that was overwritten.
template <class T>
void expect_field_error(const SyntheticState& state, const std::string& field, T value,
                        const std::string& place, ErrorCode code = ErrorCode::corrupt) {
    SCOPED_TRACE(field);
    expect_error(state.with(field, value), code, place, state.at.at(field));
}

TEST(SequenceDamage, StateCutAnywhereIsRefused) {
    for (const SyntheticState& state : testing::sample_states()) {
        for (size_t size = 0; size < state.bytes.size(); ++size) {
            // What stands before a section is a whole state: nothing in it says how many sections follow.
            if (std::count(state.section_ends.begin(), state.section_ends.end(), size) > 0) continue;
            SCOPED_TRACE(size);
            error_of({state.bytes.begin(), state.bytes.begin() + static_cast<std::ptrdiff_t>(size)});
        }
    }
}

TEST(SequenceDamage, CutStateIsReportedWhereItEnds) {
    SyntheticState state;
    state.section({});
    const size_t keys = state.at.at("0.key1.row_bytes");
    expect_error({state.bytes.begin(), state.bytes.begin() + static_cast<std::ptrdiff_t>(keys + 20)},
                 ErrorCode::corrupt, "section 0, layer 1 keys", keys + 8);
}

TEST(SequenceDamage, BytesBehindTheLastSectionAreRefused) {
    for (const SyntheticState& state : testing::sample_states())
        for (const size_t count : {1, 3, 4, 8, 100}) {
            std::vector<uint8_t> longer = state.bytes;
            longer.resize(longer.size() + count, 0x5a);
            error_of(longer);
        }
}

TEST(SequenceDamage, OffsetsCountFromTheStartOfTheFile) {
    const auto decoded = decode_sequence({}, 1000);
    ASSERT_FALSE(decoded);
    EXPECT_NE(decoded.error().message.find("offset 1000"), std::string::npos) << decoded.error().message;
}

TEST(SequenceDamage, CountsThatOverflowAreRefused) {
    for (const SyntheticState& state : testing::sample_states())
        for (const auto& [field, offset] : state.at) {
            if (field.ends_with("seq_id")) continue; // readers ignore it
            SCOPED_TRACE(field);
            for (const uint32_t value : {0xffffffffu, 0x80000000u, 0x7fffffffu, 0x20000001u})
                if (!(field.ends_with("pos") && value < 0x80000000u) &&
                    field != "recurrent.layers") // may be large
                    error_of(state.with(field, value));
            if (field.ends_with("row_bytes"))
                for (const uint64_t value : {~uint64_t{0}, uint64_t{1} << 63, (uint64_t{1} << 63) + 64})
                    error_of(state.with(field, value));
        }
}

TEST(SequenceDamage, NoStreamsAreRefused) {
    expect_field_error<uint32_t>(SyntheticState().section({}), "0.streams", 0, "section 0, header");
}

TEST(SequenceDamage, TwoStreamsWithCellsAreRefused) {
    SyntheticState state;
    state.section({.streams = 2, .stream = 0, .cells = 1});
    expect_field_error<uint32_t>(state, "0.no_cells1", 1, "section 0, stream 1");
}

TEST(SequenceDamage, NegativePositionIsRefused) {
    expect_field_error<int32_t>(SyntheticState().section({}), "0.cell1.pos", -1, "section 0, cell 1");
}

TEST(SequenceDamage, PositionThatNoneCanFollowIsRefused) {
    SyntheticState state;
    state.section({});
    expect_field_error<int32_t>(state, "0.cell1.pos", INT32_MAX, "section 0, cell 1");
    EXPECT_TRUE(decode_sequence(state.with<int32_t>("0.cell1.pos", INT32_MAX - 1)));
}

TEST(SequenceDamage, CellOfSeveralSequencesIsRefused) { // whole-context states have them
    expect_field_error<uint32_t>(SyntheticState().section({}), "0.cell2.ids", 2, "section 0, cell 2");
}

TEST(SequenceDamage, LayoutFlagAboveOneIsRefused) {
    expect_field_error<uint32_t>(SyntheticState().section({}), "0.v_trans", 2, "section 0, header");
}

TEST(SequenceDamage, LayoutFlagOfTheOtherLayoutIsRefused) {
    for (const bool transposed : {false, true}) {
        SyntheticState state;
        state.section({.transposed = transposed});
        error_of(state.with<uint32_t>("0.v_trans", transposed ? 0 : 1));
    }
}

TEST(SequenceDamage, WrongNumberOfLayersIsRefused) {
    SyntheticState state;
    state.section({.layers = 3});
    for (const uint32_t layers : {0u, 1u, 2u, 4u})
        error_of(state.with("0.layers", layers));
}

TEST(SequenceDamage, UnknownTypeIsRefused) {
    SyntheticState state;
    state.section({});
    for (const int32_t type : {-1, 4, 9999}) { // 4: a type that ggml has dropped
        expect_field_error(state, "0.key1.type", type, "section 0, layer 1 keys");
        expect_field_error(state, "0.value1.type", type, "section 0, layer 1 values");
    }
}

TEST(SequenceDamage, TypeThatNoCacheHasIsUnsupported) {
    expect_field_error<int32_t>(SyntheticState().section({}), "0.key0.type", GGML_TYPE_Q6_K,
                                "section 0, layer 0 keys", ErrorCode::unsupported);
}

TEST(SequenceDamage, RowSizeThatIsNoMultipleOfTheTypeIsRefused) {
    SyntheticState state;
    state.section({.key_type = GGML_TYPE_Q8_0});
    expect_field_error<uint64_t>(state, "0.key0.row_bytes", 35, "section 0, layer 0 keys");
    expect_field_error<uint64_t>(state, "0.value0.row_bytes", 63, "section 0, layer 0 values");
    expect_field_error<uint64_t>(state, "0.key0.row_bytes", 0, "section 0, layer 0 keys");
}

TEST(SequenceDamage, ElementSizeOfAnotherTypeIsRefused) {
    SyntheticState state;
    state.section({.transposed = true});
    expect_field_error<uint32_t>(state, "0.value1.element", 4, "section 0, layer 1 values");
}

TEST(SequenceDamage, TransposedValuesWithoutWidthAreRefused) {
    SyntheticState state;
    state.section({.transposed = true});
    expect_field_error<uint32_t>(state, "0.value1.width", 0, "section 0, layer 1 values");
}

TEST(SequenceDamage, TransposedQuantisedValuesAreRefused) {
    SyntheticState state;
    state.section({.transposed = true});
    expect_field_error<int32_t>(state, "0.value0.type", GGML_TYPE_Q8_0, "section 0, layer 0 values");
}

TEST(SequenceDamage, LayersWithoutValuesAreRefusedAsMla) {
    SyntheticState state;
    state.section({});
    const auto end = static_cast<std::ptrdiff_t>(state.at.at("0.value0.type"));
    const std::vector<uint8_t> keys_only(state.bytes.begin(), state.bytes.begin() + end);
    const Error alone = error_of(keys_only);
    EXPECT_EQ(alone.code, ErrorCode::unsupported);
    EXPECT_NE(alone.message.find("MLA"), std::string::npos) << alone.message;

    std::vector<uint8_t> two = keys_only; // as DeepSeek's sparse attention has them
    two.insert(two.end(), keys_only.begin(), keys_only.end());
    EXPECT_NE(error_of(two).message.find("MLA"), std::string::npos);
}

TEST(SequenceDamage, SecondSectionIsNamed) {
    SyntheticState state;
    state.section({}).section({});
    expect_field_error<int32_t>(state, "1.value1.type", 99, "section 1, layer 1 values");
}

TEST(SequenceDamage, MoreSectionsThanAnyModelHasAreRefused) {
    SyntheticState state;
    for (int i = 0; i < 9; ++i)
        state.section({.cells = 1, .layers = 1});
    expect_error(state.bytes, ErrorCode::corrupt, "section 8, header", state.section_ends[7]);
}

TEST(SequenceDamage, CellsWithExtraDataAreReportedAsSuch) {
    SyntheticState state;
    state.section({.cells = 9, .extra = true});
    const Error error = error_of(state.with<uint32_t>("0.cell7.ids", 2));
    EXPECT_NE(error.message.find("with extra position data: section 0, cell 7, offset"), std::string::npos)
        << error.message;
    expect_field_error<int32_t>(state, "0.key1.type", 77, "section 0, layer 1 keys");
}

TEST(SequenceDamage, SectionsWithAndWithoutExtraDataAreRefused) {
    SyntheticState state;
    state.section({.extra = true}).section({.extra = false});
    error_of(state.bytes);
}

TEST(SequenceDamage, RecurrentStateAloneIsUnsupported) {
    for (const uint32_t first_pos : {0u, 9u}) {
        SyntheticState state;
        state.recurrent({.first_pos = first_pos});
        expect_error(state.bytes, ErrorCode::unsupported, "section 0, header", 0);
    }
}

TEST(SequenceDamage, RecurrentTransposedStateIsRefused) {
    SyntheticState state;
    state.section({}).recurrent({});
    const Error error =
        error_of(state.with<uint32_t>("recurrent.s_trans", 1)); // may be an attention cache as well
    EXPECT_NE(error.message.find("expected s_trans to be 0, got 1"), std::string::npos) << error.message;
}

TEST(SequenceDamage, RecurrentCellWithSequenceIdsIsRefused) {
    SyntheticState state;
    state.section({}).recurrent({.cells = 2});
    const Error error = error_of(state.with<uint32_t>("recurrent.cell1.ids", 1));
    EXPECT_NE(error.message.find("section 1, recurrent cell 1, offset"), std::string::npos) << error.message;
}

TEST(SequenceDamage, RecurrentRecordsOfTwoSizesAreRefused) {
    SyntheticState state;
    state.section({}).recurrent({.cells = 0}); // no rows: the sizes are free
    error_of(state.with<uint64_t>("recurrent.r1.row_bytes", 400));
    error_of(state.with<uint64_t>("recurrent.s0.row_bytes", 400));
}

TEST(SequenceDamage, MoreRecurrentRecordsThanLayersAreRefused) {
    SyntheticState state;
    state.section({}).recurrent({});
    expect_error(state.with<uint32_t>("recurrent.layers", 1), ErrorCode::corrupt,
                 "section 1, recurrent record 2", state.at.at("recurrent.s0.type"));
}

TEST(SequenceDamage, RecurrentUnknownTypeIsRefused) {
    SyntheticState state;
    state.section({}).recurrent({});
    expect_field_error<int32_t>(state, "recurrent.s1.type", -7, "section 1, recurrent record 3");
}

TEST(SequenceDamage, RecurrentVariantWithPleRowsIsRefused) {
    error_of(SyntheticState().section({}).recurrent({.ple = true}).bytes);
}

// A copy with a few bytes or fields changed, cut out or put in.
std::vector<uint8_t> mutate(const SyntheticState& state, std::mt19937& random) {
    const auto below = [&](size_t limit) { return static_cast<size_t>(random() % limit); };
    std::vector<uint8_t> bytes = state.bytes;
    for (size_t change = 0; change <= below(3) && !bytes.empty(); ++change) {
        const size_t where = below(bytes.size());
        auto field = state.at.begin();
        std::advance(field, static_cast<std::ptrdiff_t>(below(state.at.size())));
        const uint32_t values[] = {
            0, 1, 2, 31, 0xff, 0xffff, 0x7fffffff, 0xffffffff, static_cast<uint32_t>(random())};
        switch (below(6)) {
        case 0:
            bytes[where] = static_cast<uint8_t>(random());
            break;
        case 1:
            bytes[where] ^= static_cast<uint8_t>(1 << below(8));
            break;
        case 2:
            bytes.resize(where);
            break;
        case 3:
            bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(where), below(9), 0);
            break;
        case 4:
            bytes.erase(bytes.begin() + static_cast<std::ptrdiff_t>(where));
            break;
        default:
            if (field->second + 4 <= bytes.size())
                std::memcpy(bytes.data() + field->second, &values[below(std::size(values))], 4);
        }
    }
    return bytes;
}

TEST(SequenceDamage, RandomMutationsAreErrorsOrWholeStates) {
    std::mt19937 random(20260216);
    size_t accepted = 0;
    for (uint32_t seed = 1; seed <= 4; ++seed) {
        for (const SyntheticState& state : testing::sample_states(seed)) {
            for (int round = 0; round < 800; ++round) {
                const std::vector<uint8_t> bytes = mutate(state, random);
                const auto decoded = decode_bounded(bytes);
                if (!decoded) continue;
                ++accepted;
                ASSERT_EQ(encode_sequence(*decoded), bytes);
            }
        }
    }
    EXPECT_GT(accepted, 1000u); // else the mutations never reach past the headers
}

} // namespace
} // namespace kvfold
