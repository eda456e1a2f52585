#include "base/file.h"
#include "state/slot_file.h"
#include "state/synthetic_state.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace kvfold {
namespace {

using testing::SyntheticState;

struct RawSlot {
    std::vector<uint8_t> bytes;
    size_t state_offset = 0;
};

RawSlot raw_slot(uint32_t tokens = 5, uint32_t version = 3) {
    SyntheticState header;
    header.put<uint32_t>("magic", 0x67677371);
    header.put<uint32_t>("version", version);
    header.put<uint32_t>("tokens", tokens);
    for (uint32_t i = 0; i < tokens; ++i)
        header.put<int32_t>("", static_cast<int32_t>(100 + i));
    const SyntheticState state =
        SyntheticState().section({.rotation = version == 4}).section({.cells = 1, .rotation = version == 4});
    RawSlot slot{header.bytes, header.bytes.size()};
    slot.bytes.insert(slot.bytes.end(), state.bytes.begin(), state.bytes.end());
    return slot;
}

void expect_error(std::vector<uint8_t> bytes, ErrorCode code, const std::string& start) {
    const auto slot = decode_slot(bytes);
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code, code) << slot.error().message;
    EXPECT_EQ(slot.error().message.rfind(start, 0), 0u) << slot.error().message;
}

std::vector<uint8_t> with_u32(std::vector<uint8_t> bytes, size_t offset, uint32_t value) {
    std::memcpy(bytes.data() + offset, &value, sizeof(value));
    return bytes;
}

TEST(SlotFile, ComesBackByteForByte) {
    for (const uint32_t tokens : {0u, 1u, 5u}) {
        const RawSlot raw = raw_slot(tokens);
        const auto slot = decode_slot(raw.bytes);
        ASSERT_TRUE(slot) << slot.error().message;
        ASSERT_EQ(slot->text.tokens.size(), tokens);
        for (uint32_t i = 0; i < tokens; ++i)
            EXPECT_EQ(slot->text.tokens[i], static_cast<int32_t>(100 + i));
        EXPECT_EQ(slot->state.sections.size(), 2u);
        EXPECT_EQ(encode_slot(*slot), raw.bytes);
    }
}

// As llama-server appends them: two, the second with nothing in it.
std::vector<uint8_t> with_checkpoints(std::vector<uint8_t> slot, uint32_t version = 1) {
    SyntheticState appended;
    appended.put<uint32_t>("magic", 0x504b4353);
    appended.put<uint32_t>("version", version);
    appended.put<uint32_t>("count", 2);
    for (const uint64_t bytes : {3, 0}) {
        appended.put<int64_t>("tokens", 40);
        appended.put<int32_t>("first", 8);
        appended.put<int32_t>("last", 39);
        for (int part = 0; part < 3; ++part) {
            appended.put<uint64_t>("size", bytes);
            for (uint64_t i = 0; i < bytes; ++i)
                appended.put<uint8_t>("", 'S');
        }
    }
    slot.insert(slot.end(), appended.bytes.begin(), appended.bytes.end());
    return slot;
}

TEST(SlotFile, CheckpointsBehindTheStateAreNoPartOfIt) {
    const RawSlot raw = raw_slot();
    const std::vector<uint8_t> saved = with_checkpoints(raw.bytes);
    const auto slot = decode_slot(saved);
    ASSERT_TRUE(slot) << slot.error().message;
    EXPECT_EQ(encode_slot(*slot), raw.bytes);
    EXPECT_FALSE(decode_slot(std::span(saved).first(saved.size() - 1))); // the broken twins: cut off,
    EXPECT_FALSE(decode_slot(with_checkpoints(saved)));                  // more behind them,
    EXPECT_FALSE(decode_slot(with_checkpoints(raw.bytes, 2)));           // and of an unknown version
}

TEST(SlotFile, TheNextVersionComesBackByteForByte) {
    const RawSlot raw = raw_slot(5, 4);
    const auto slot = decode_slot(raw.bytes);
    ASSERT_TRUE(slot) << slot.error().message;
    EXPECT_EQ(slot->state.sections[1].rotation.keys, 64u);
    EXPECT_EQ(encode_slot(*slot), raw.bytes);
}

TEST(SlotFile, AFileOfOneVersionIsNotReadAsTheOther) {
    EXPECT_FALSE(decode_slot(with_u32(raw_slot(5, 4).bytes, 4, 3)));
    EXPECT_FALSE(decode_slot(with_u32(raw_slot(5, 3).bytes, 4, 4)));
}

TEST(SlotFile, FileCutAnywhereIsRefused) {
    const RawSlot raw = raw_slot();
    const size_t first_section = raw.state_offset + SyntheticState().section({}).bytes.size();
    for (size_t size = 0; size < raw.bytes.size(); ++size) {
        if (size == first_section) continue; // see SequenceDamage.StateCutAnywhereIsRefused
        ASSERT_FALSE(decode_slot(std::span(raw.bytes).first(size))) << size;
    }
}

TEST(SlotFile, WrongMagicIsRefused) {
    expect_error(with_u32(raw_slot().bytes, 0, 0x46554747), ErrorCode::corrupt,
                 "slot header, offset 0: expected magic");
}

TEST(SlotFile, WholeSessionIsToldApart) {
    expect_error(with_u32(raw_slot().bytes, 0, 0x6767736e), ErrorCode::unsupported,
                 "slot header, offset 0: this is a whole");
}

TEST(SlotFile, AnArchiveIsToldApart) {
    expect_error(with_u32(raw_slot().bytes, 0, 0x6166766b), ErrorCode::unsupported,
                 "slot header, offset 0: this is an archive");
}

TEST(SlotFile, OtherVersionsAreUnsupported) {
    for (const uint32_t version : {0u, 2u, 5u, 0xffffffffu})
        expect_error(with_u32(raw_slot().bytes, 4, version), ErrorCode::unsupported,
                     "slot header, offset 4: expected version 3 or 4");
}

TEST(SlotFile, MoreTokensThanBytesAreRefused) {
    for (const uint32_t tokens : {0xffffffffu, 0x40000000u, 0x3fffffffu, 100000u})
        expect_error(with_u32(raw_slot().bytes, 8, tokens), ErrorCode::corrupt, "slot header, offset 8: ");
}

TEST(SlotFile, OtherNumberOfTokensIsRefused) {
    for (const uint32_t tokens : {0u, 4u, 6u})
        EXPECT_FALSE(decode_slot(with_u32(raw_slot().bytes, 8, tokens)));
}

TEST(SlotFile, OffsetsCountFromTheStartOfTheFile) {
    const RawSlot raw = raw_slot();
    expect_error(with_u32(raw.bytes, raw.state_offset, 0), ErrorCode::corrupt,
                 "section 0, header, offset " + std::to_string(raw.state_offset) + ": expected");
}

TEST(SlotFile, ErrorsNameTheFile) {
    const auto path = std::filesystem::temp_directory_path() / ("kvfold-slot-" + std::to_string(getpid()));
    ASSERT_TRUE(write_file(path, "not a slot file at all"));
    const auto slot = read_slot_file(path);
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().message.rfind(path.string() + ": slot header", 0), 0u) << slot.error().message;

    const auto good = decode_slot(raw_slot().bytes);
    ASSERT_TRUE(good);
    ASSERT_TRUE(write_slot_file(path, *good));
    const auto back = read_slot_file(path);
    ASSERT_TRUE(back) << back.error().message;
    EXPECT_EQ(encode_slot(*back), raw_slot().bytes);
    std::filesystem::remove(path);
    EXPECT_EQ(read_slot_file(path).error().code, ErrorCode::io);
}

} // namespace
} // namespace kvfold
